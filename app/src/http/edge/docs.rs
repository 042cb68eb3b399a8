//! The document as a file, and Swagger UI as files without inline scripts, so that a content security policy can forbid those.

use std::marker::PhantomData;

use bytes::Bytes;
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::Value;
use std::collections::HashMap;

use super::routes::Page;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const INDEX: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>private-chat API</title>
<link rel="stylesheet" href="/docs/ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

const START: &str =
    "SwaggerUIBundle({ dom_id: '#ui', url: '/openapi.json', deepLinking: true, validatorUrl: null });\n";

/// `/openapi.json`, `/docs` and what it loads.
pub(super) fn pages(document: &Value) -> Vec<(String, Page)> {
    let (style, script) = swagger_ui();
    let file = |content_type, content: Bytes| Page { content_type, policy: None, content };
    let index = Page { policy: Some(POLICY), ..file("text/html; charset=utf-8", Bytes::from_static(INDEX.as_bytes())) };
    vec![
        ("/openapi.json".into(), file("application/json", document.to_string().into())),
        ("/docs".into(), index),
        ("/docs/ui.css".into(), file("text/css; charset=utf-8", style)),
        ("/docs/ui.js".into(), file("text/javascript; charset=utf-8", script)),
        ("/docs/start.js".into(), file("text/javascript; charset=utf-8", Bytes::from_static(START.as_bytes()))),
    ]
}

/// Style and script, cut out of the one page that poem-openapi makes.
fn swagger_ui() -> (Bytes, Bytes) {
    let page = OpenApiService::new(Nothing(PhantomData), "", "").swagger_ui_html();
    let between = |begin: &str, end: &str| {
        let rest = page.split_once(begin).map_or("", |(_, rest)| rest);
        Bytes::copy_from_slice(rest.split_once(end).map_or("", |(cut, _)| cut).as_bytes())
    };
    (
        between("<style charset=\"UTF-8\">", "</style>\n    <script"),
        between("<script charset=\"UTF-8\">", "</script>\n</head>"),
    )
}

/// An API of nothing.
struct Nothing(PhantomData<()>);

impl OpenApi for Nothing {
    fn meta() -> Vec<poem_openapi::registry::MetaApi> {
        Vec::new()
    }

    fn register(_: &mut poem_openapi::registry::Registry) {}

    fn add_routes(self, _: &mut HashMap<String, HashMap<poem::http::Method, poem::endpoint::BoxEndpoint<'static>>>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_are_whole() {
        let (style, script) = swagger_ui();
        assert!(style.len() > 100_000 && style.starts_with(b".swagger-ui"), "{}", style.len());
        assert!(script.len() > 1_000_000 && !script.ends_with(b"</script>"), "{}", script.len());
        assert!(script.windows(15).any(|part| part == b"SwaggerUIBundle"));
    }
}
