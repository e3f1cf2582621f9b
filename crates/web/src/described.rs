//! The API described: `/openapi.json`, and two pages that show it, Swagger UI at `/docs` and ReDoc at `/redoc`.
//!
//! The description is written by hand, a file for each family in `openapi/`, and put together here. Tests hold it against
//! the table of routes, and against real answers. The pages' scripts come with the program; they ask nobody else.

mod document;
mod pages;

use axum::Json;
use axum::response::{IntoResponse, Response};

use crate::table::Table;

pub use document::openapi;

pub(crate) fn routes() -> Table {
    Table::default()
        .get("/openapi.json", described)
        .get("/docs", pages::swagger)
        .get("/docs/init.js", pages::swagger_init)
        .get("/docs/style.css", pages::swagger_style)
        .get("/docs/swagger-ui-bundle.js", pages::swagger_asset)
        .get("/docs/swagger-ui.css", pages::swagger_asset)
        .get("/redoc", pages::redoc)
        .get("/redoc/init.js", pages::redoc_init)
        .get("/redoc/style.css", pages::redoc_style)
        .get("/redoc/redoc.js", pages::redoc_asset)
}

async fn described() -> Response {
    Json(openapi()).into_response()
}
