use std::collections::BTreeSet;

use super::*;

/// Method and path of a route, with nothing left of its parameters but their places.
type Door = (String, String);

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn door(method: &str, path: &str) -> Door {
    let segment = |segment: &str| {
        // Google's method stands behind the parameter, in the same segment.
        if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() }
    };
    (method.to_uppercase(), path.split('/').map(segment).collect::<Vec<_>>().join("/"))
}

fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = openapi()["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let known = METHODS.into_iter().filter_map(|method| Some((method, item.get(method)?)));
        known.map(move |(method, operation)| (method, path.as_str(), operation))
    })
}

fn described() -> BTreeSet<Door> {
    let doors = operations().flat_map(|(method, path, _)| {
        let also = openapi()["paths"][path][ALSO].as_array().into_iter().flatten().filter_map(Value::as_str);
        also.chain([path]).map(move |path| door(method, path))
    });
    doors.collect()
}

#[test]
fn every_route_is_described_and_every_description_has_its_route() {
    let there = crate::routes().into_iter().map(|listed| {
        // A route for every method is described by the one that people use.
        let method = if listed.method == "ANY" { "GET" } else { listed.method };
        door(method, &listed.path)
    });
    let (there, described) = (there.collect::<BTreeSet<_>>(), described());
    let missing: Vec<_> = there.difference(&described).collect();
    let invented: Vec<_> = described.difference(&there).collect();
    assert!(missing.is_empty(), "routes that crates/web/openapi does not describe: {missing:?}");
    assert!(invented.is_empty(), "described, and not there: {invented:?}");
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let whole = openapi();
    let mut used = BTreeSet::new();
    for reference in references(whole) {
        let pointer = reference.strip_prefix('#').expect("it points into the description");
        assert!(whole.pointer(pointer).is_some(), "{reference}");
        used.insert(pointer.to_owned());
    }
    for kind in ["schemas", "responses", "parameters", "headers"] {
        for name in whole["components"][kind].as_object().expect("components").keys() {
            assert!(used.contains(&format!("/components/{kind}/{name}")), "nobody uses {kind}/{name}");
        }
    }
}

/// In YAML's braces a sentence ends at its first comma, and the rest of it becomes a name.
#[test]
fn no_sentence_was_cut_at_a_comma() {
    let cut = names(openapi());
    assert!(cut.is_empty(), "put these in quotes: {cut:?}");
}

fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => {
            let said = map.iter().filter(|(name, _)| !["example", "examples", "value"].contains(&name.as_str()));
            let blank = |name: &&str| name.contains(' ');
            said.flat_map(|(name, value)| [name.as_str()].into_iter().filter(blank).chain(names(value))).collect()
        }
        Value::Array(list) => list.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_operation_says_what_it_is_and_how_it_fails() {
    let tags: Vec<&str> =
        openapi()["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let at = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no operationId"));
        assert!(ids.insert(id), "{at}: {id} is taken");
        assert!(operation["summary"].as_str().is_some_and(|words| !words.ends_with('.')), "{at} has no summary");
        assert!(operation["tags"][0].as_str().is_some_and(|tag| tags.contains(&tag)), "{at} has no known tag");
        let open = operation["security"].as_array().is_some_and(|ways| ways.iter().all(|way| way == &json!({})));
        let responses = operation["responses"].as_object().expect("responses");
        let fails = responses.keys().any(|status| status.starts_with('4'));
        assert!(open || fails, "{at} needs a key, and does not say what is answered without one");
        // What stands in the path is explained.
        let explained: Vec<&str> = [&openapi()["paths"][path]["parameters"], &operation["parameters"]]
            .into_iter()
            .flat_map(|list| list.as_array().into_iter().flatten())
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => openapi().pointer(&reference[1..]).expect("it is there"),
                None => parameter,
            })
            .filter(|parameter| parameter["in"] == "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let wanted: Vec<&str> =
            path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
        assert_eq!(explained, wanted, "{at}");
    }
}

#[test]
fn every_post_that_costs_or_makes_something_is_described_as_done_once() {
    // Counting and trying a key change nothing; Telegram and the desk have ways of their own.
    let free = ["count_tokens", ":countTokens", "/test", "/telegram/", "/tg/", "/admin/api/"];
    for (_, path, operation) in operations().filter(|(method, ..)| *method == "post") {
        if free.iter().any(|part| path.contains(part)) {
            continue;
        }
        let once = references(&operation["parameters"]).contains(&"#/components/parameters/IdempotencyKey");
        assert!(once, "POST {path} takes an Idempotency-Key, and does not say so");
    }
}

#[test]
fn no_two_files_describe_the_same() {
    let mut seen = BTreeSet::new();
    for (name, text) in FILES {
        let file: Value = serde_saphyr::from_str(text).expect("YAML");
        let paths = file["paths"].as_object().into_iter().flatten().map(|(path, _)| path.clone());
        let components = file["components"].as_object().into_iter().flatten();
        let components = components.flat_map(|(kind, all)| {
            all.as_object().into_iter().flatten().map(move |(name, _)| format!("{kind}/{name}"))
        });
        for what in paths.chain(components) {
            assert!(seen.insert(what.clone()), "{what} is in {name}.yaml and in another file");
        }
    }
}

#[test]
fn every_way_to_show_a_key_is_named() {
    let mut schemes = openapi()["components"]["securitySchemes"].as_object().expect("schemes").clone();
    // The desk's cookie is for browsers, and opens nothing else.
    assert_eq!(schemes.remove("desk").expect("the desk's")["in"], "cookie");
    let headers: Vec<&str> =
        schemes.values().map(|scheme| scheme["name"].as_str().unwrap_or("authorization")).collect();
    assert_eq!(headers, ["authorization", "x-api-key", "x-goog-api-key", "api-key", "x-litellm-api-key"]);
    let any: Vec<&str> = openapi()["security"]
        .as_array()
        .expect("security")
        .iter()
        .filter_map(|way| way.as_object()?.keys().next())
        .map(String::as_str)
        .collect();
    assert_eq!(any, schemes.keys().collect::<Vec<_>>());
}
