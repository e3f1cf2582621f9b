//! The table of routes: a router that remembers what was put into it.
//!
//! axum does not tell which routes it has. The description of the API is held against this list, so that neither has
//! what the other has not.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, any, on};

use crate::{Web, error};

/// Routes, and their names.
#[derive(Default)]
pub(crate) struct Table {
    router: Router<Web>,
    listed: Vec<Listed>,
}

/// A route by its method and by its path as axum writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// `ANY` where every method is taken.
    pub method: &'static str,
    pub path: String,
}

impl Table {
    pub(crate) fn get<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("GET", path, on(MethodFilter::GET, handler))
    }

    pub(crate) fn post<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("POST", path, on(MethodFilter::POST, handler))
    }

    pub(crate) fn put<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("PUT", path, on(MethodFilter::PUT, handler))
    }

    pub(crate) fn delete<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("DELETE", path, on(MethodFilter::DELETE, handler))
    }

    pub(crate) fn any<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("ANY", path, any(handler))
    }

    /// A route that looks, asked by another method, like one that is not there: its path is a secret. A fallback for
    /// methods would still tell, in an `Allow` header, which ones it takes.
    pub(crate) fn hidden_post<H: Handler<T, Web>, T: 'static>(self, path: &str, handler: H) -> Table {
        self.add("POST", path, any(async || error::not_found()).post(handler))
    }

    fn add(mut self, method: &'static str, path: &str, route: MethodRouter<Web>) -> Table {
        self.router = self.router.route(path, route);
        self.listed.push(Listed { method, path: path.to_owned() });
        self
    }

    pub(crate) fn merge(mut self, other: Table) -> Table {
        self.router = self.router.merge(other.router);
        self.listed.extend(other.listed);
        self
    }

    /// Lists another table's routes with ours, though they are not served together.
    pub(crate) fn merge_names(mut self, other: Table) -> Table {
        self.listed.extend(other.listed);
        self
    }

    /// The same routes behind a layer.
    pub(crate) fn map(mut self, dress: impl FnOnce(Router<Web>) -> Router<Web>) -> Table {
        self.router = dress(self.router);
        self
    }

    pub(crate) fn into_parts(self) -> (Router<Web>, Vec<Listed>) {
        (self.router, self.listed)
    }
}
