//! Two pages that show the description. What they load is theirs alone, and each has a policy of its own.
//!
//! Their scripts are other people's and come as crates: Swagger UI as routes, which are asked from here, and ReDoc as a
//! page, of which the script is taken out so that nothing has to stand in a page.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use swagger_ui_dist::{ApiDefinition, OpenApiSource, generate_routes};
use tower::ServiceExt;

/// Scripts, styles and answers of this origin alone. Both programs set styles while they run, and put HTML together: that
/// they may, but what becomes a script has to be a file of ours.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types default dompurify",
);
const CACHED: HeaderValue = HeaderValue::from_static("max-age=3600");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

pub(super) async fn swagger() -> Response {
    page(include_str!("../../assets/docs.html"))
}

pub(super) async fn swagger_init() -> Response {
    file(SCRIPT, include_str!("../../assets/docs.js"))
}

pub(super) async fn swagger_style() -> Response {
    file(STYLE, include_str!("../../assets/docs.css"))
}

/// The files of Swagger UI, from the crate's own routes.
pub(super) async fn swagger_asset(request: Request) -> Response {
    static ROUTES: LazyLock<Router> = LazyLock::new(|| {
        generate_routes(ApiDefinition {
            uri_prefix: "/docs",
            api_definition: OpenApiSource::Uri("/openapi.json"),
            title: None,
        })
    });
    let Ok(mut response) = ROUTES.clone().oneshot(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, CACHED);
    response
}

pub(super) async fn redoc() -> Response {
    page(include_str!("../../assets/redoc.html"))
}

pub(super) async fn redoc_init() -> Response {
    file(SCRIPT, include_str!("../../assets/redoc.js"))
}

pub(super) async fn redoc_style() -> Response {
    file(STYLE, include_str!("../../assets/redoc.css"))
}

pub(super) async fn redoc_asset() -> Response {
    file(SCRIPT, REDOC.clone())
}

/// ReDoc's script, without the one picture that it would fetch from its makers.
static REDOC: LazyLock<Bytes> = LazyLock::new(|| {
    let html = aide::redoc::Redoc::new("").html();
    let script = html.split_once("<script>").and_then(|(_, rest)| rest.split_once("Redoc.init("));
    let script = script.map_or("", |(script, _)| script);
    let empty = "data:image/svg+xml,%3Csvg%20xmlns=%27http://www.w3.org/2000/svg%27/%3E";
    script.replace("https://cdn.redoc.ly/redoc/logo-mini.svg", empty).into()
});

fn page(html: &'static str) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(html)).into_response()
}

fn file(kind: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, CACHED)];
    (headers, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_redoc_is_whole_and_asks_nobody() {
        let script = std::str::from_utf8(&REDOC).expect("text");
        assert!(script.len() > 500_000 && script.contains("Redoc"), "{} bytes", script.len());
        assert!(!script.contains("cdn."));
    }

    #[tokio::test]
    async fn the_files_of_swagger_ui_are_there() {
        for (path, least) in [("/docs/swagger-ui-bundle.js", 500_000), ("/docs/swagger-ui.css", 50_000)] {
            let request = Request::get(path).body(axum::body::Body::empty()).expect("a request");
            let response = swagger_asset(request).await;
            assert_eq!(response.status(), 200, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 16 << 20).await.expect("a body");
            assert!(body.len() > least, "{path}");
        }
    }
}
