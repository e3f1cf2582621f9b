//! The API described: `/openapi.json`, and two pages that show it, Swagger UI at `/docs` and ReDoc at `/redoc`.
//!
//! The description is written by hand, a file for each family in `openapi/`, and put together here. Tests hold it against
//! the table of routes, and against real answers. The pages' scripts come with the program; they ask nobody else.

mod document;
mod pages;

use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use crate::table::Table;

pub use document::openapi;

pub(crate) fn routes() -> Table {
    let get = Method::GET;
    Table::default()
        .hidden(&get, "/openapi.json", described)
        .hidden(&get, "/docs", pages::swagger)
        .hidden(&get, "/docs/init.js", pages::swagger_init)
        .hidden(&get, "/docs/style.css", pages::swagger_style)
        .hidden(&get, "/docs/swagger-ui-bundle.js", pages::swagger_asset)
        .hidden(&get, "/docs/swagger-ui.css", pages::swagger_asset)
        .hidden(&get, "/redoc", pages::redoc)
        .hidden(&get, "/redoc/init.js", pages::redoc_init)
        .hidden(&get, "/redoc/style.css", pages::redoc_style)
        .hidden(&get, "/redoc/redoc.js", pages::redoc_asset)
}

async fn described() -> Response {
    Json(openapi()).into_response()
}
