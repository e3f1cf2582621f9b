// Shows the description in ReDoc.

// ReDoc puts HTML together. Whatever wants to become a script has no way in.
if (window.trustedTypes) trustedTypes.createPolicy("default", { createHTML: (html) => html });

const light = {
  colors: { primary: { main: "#8a3b12" }, text: { primary: "#2b2622", secondary: "#5c544d" } },
  sidebar: { backgroundColor: "#faf7f2", textColor: "#2b2622" },
};
const dark = {
  colors: {
    primary: { main: "#d9772f" },
    text: { primary: "#e8e3dc", secondary: "#b5ada3" },
    border: { dark: "#4a443e", light: "#3a3530" },
    gray: { 50: "#24211e", 100: "#2e2a26" },
    responses: { success: { color: "#7fcf8f" }, error: { color: "#f28b82" } },
  },
  schema: { nestedBackground: "#24211e", linesColor: "#5c544d", typeNameColor: "#b5ada3", requireLabelColor: "#f28b82" },
  sidebar: { backgroundColor: "#1f1c19", textColor: "#e8e3dc" },
  codeBlock: { backgroundColor: "#141210" },
};
const font = { fontFamily: "system-ui, sans-serif" };
const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
const code = isDark ? { color: "#f0a36b", backgroundColor: "#2e2a26" } : { color: "#8a3b12", backgroundColor: "#f5efe8" };

Redoc.init(
  "/openapi.json",
  {
    // Its index is made by a script that is put together while it runs, which this page does not allow.
    disableSearch: true,
    nativeScrollbars: true,
    hideDownloadButton: false,
    theme: {
      ...(isDark ? dark : light),
      typography: { ...font, headings: font, fontSize: "15px", code },
      rightPanel: {
        backgroundColor: "#26221e",
        servers: isDark ? { overlay: { backgroundColor: "#24211e", textColor: "#e8e3dc" }, url: { backgroundColor: "#2e2a26" } } : {},
      },
    },
  },
  document.getElementById("redoc"),
);
