// Runs before the first paint, so that a chosen theme never flashes the other one.
{
  let theme = null;
  try {
    theme = localStorage.getItem("mock_messenger_theme");
  } catch {
    // Storage may be switched off; the system's theme is used then.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
