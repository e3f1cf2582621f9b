// Shows the description in Swagger UI.

// Swagger UI puts HTML together and cleans it. Whatever wants to become a script has no way in.
if (window.trustedTypes) trustedTypes.createPolicy("default", { createHTML: (html) => html });

const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  // A key that was typed in is forgotten with the page.
  persistAuthorization: false,
  // Nobody else is asked whether the description is right.
  validatorUrl: null,
});
