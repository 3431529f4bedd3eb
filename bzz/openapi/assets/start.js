"use strict";

(function () {
  const place = document.getElementById("swagger-ui");
  window.ui = window.SwaggerUIBundle({
    url: place.dataset.url,
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    filter: true,
    // Nobody else is asked whether the document is valid.
    validatorUrl: null,
  });
})();
