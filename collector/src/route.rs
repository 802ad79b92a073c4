//! What a request asks for: its path, its method and its query.

use crate::answer::Refusal;
use crate::documents::Document;
use http::header::ALLOW;
use http::request::Parts;
use http::{Method, Uri};
use logweir_proto::answer::ProblemCode;

/// What stands behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Takes events.
    Events,
    /// Tells who asks which limits apply to it.
    Limits,
    /// Something to read that is the same for everybody.
    Document(Document),
}

/// All paths there are.
const ROUTES: [(&str, Route); 4] = [
    ("/v1/events", Route::Events),
    ("/v1/limits", Route::Limits),
    ("/v1/openapi.json", Route::Document(Document::OpenApi)),
    ("/v1/schema", Route::Document(Document::Schema)),
];

impl Route {
    /// What `Allow` says.
    const fn methods(self) -> &'static str {
        match self {
            Route::Events => "POST",
            Route::Limits | Route::Document(_) => "GET, HEAD",
        }
    }

    fn takes(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

/// The route of a request.
///
/// # Errors
/// 404, and 405 with `Allow`.
pub(crate) fn find(head: &Parts) -> Result<Route, Refusal> {
    let path = head.uri.path();
    let Some((_, route)) = ROUTES.iter().find(|(known, _)| *known == path) else {
        let known: Vec<String> =
            ROUTES.iter().map(|(path, route)| format!("{} {path}", route.methods())).collect();
        return Err(Refusal::new(ProblemCode::NotFound, format!("there are only {}", known.join("; "))));
    };
    if !route.takes(&head.method) {
        let detail = format!("{path} takes {}", route.methods());
        return Err(
            Refusal::new(ProblemCode::MethodNotAllowed, detail).header(ALLOW, route.methods().to_owned())
        );
    }
    Ok(*route)
}

/// Whether a POST asks for verdicts alone. A parameter that nobody knows is refused: who mistypes `dry_run` would
/// otherwise have the events counted.
///
/// # Errors
/// 400.
pub(crate) fn dry_run(uri: &Uri) -> Result<bool, Refusal> {
    match uri.query() {
        None | Some("" | "dry_run=0" | "dry_run=false") => Ok(false),
        Some("dry_run=1" | "dry_run=true") => Ok(true),
        Some(_) => Err(Refusal::new(
            ProblemCode::Malformed,
            "the query is not understood: the only one there is here is ?dry_run=1",
        )),
    }
}

/// Checks that a document is asked for without a query.
///
/// # Errors
/// 400.
pub(crate) fn no_query(uri: &Uri) -> Result<(), Refusal> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(_) => Err(Refusal::new(ProblemCode::Malformed, "this path takes no query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn ask(method: &str, uri: &str) -> Result<Route, Refusal> {
        find(&Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn each_path_has_its_methods() {
        assert_eq!(ask("POST", "/v1/events?x=1").unwrap(), Route::Events);
        assert_eq!(ask("POST", "http://host/v1/events").unwrap(), Route::Events);
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(method, "/v1/schema").unwrap(), Route::Document(Document::Schema));
        }
        for (method, uri, allow) in [
            ("GET", "/v1/events", "POST"),
            ("post", "/v1/events", "POST"),
            ("OPTIONS", "/v1/schema", "GET, HEAD"),
            ("X-NEW", "/v1/schema", "GET, HEAD"),
        ] {
            let refusal = ask(method, uri).unwrap_err();
            assert_eq!(refusal.code, ProblemCode::MethodNotAllowed);
            assert_eq!(refusal.into_reply().headers()["allow"], allow);
        }
        for uri in ["/", "*", "/v1/events/", "/V1/events", "/v1//events", "/v1/%65vents", "/v1/schema.json"] {
            let refusal = ask("POST", uri).unwrap_err();
            assert_eq!(refusal.code, ProblemCode::NotFound);
            assert!(refusal.detail.contains("POST /v1/events"), "{}", refusal.detail);
        }
    }

    #[test]
    fn a_mistyped_query_is_no_real_post() {
        let of = |query: &str| dry_run(&format!("/v1/events{query}").parse().unwrap());
        for (query, dry) in [("", false), ("?", false), ("?dry_run=1", true), ("?dry_run=false", false)] {
            assert_eq!(of(query).unwrap(), dry, "{query}");
        }
        for query in
            ["?dryrun=1", "?dry_run", "?dry_run=", "?dry_run=yes", "?dry_run=1&dry_run=0", "?a=1", "?&"]
        {
            assert_eq!(of(query).unwrap_err().code, ProblemCode::Malformed, "{query}");
        }
    }
}
