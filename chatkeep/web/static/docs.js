// Start Swagger UI on the server's OpenAPI document.
const place = document.getElementById("swagger-ui");
window.SwaggerUIBundle({ domNode: place, url: place.dataset.document, validatorUrl: null, deepLinking: true });
