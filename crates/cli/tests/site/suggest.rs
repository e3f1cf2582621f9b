//! What could be asked next, as the dialog's own model suggests it.

use salon::audit::Actor;
use salon::catalog::{Environment, Sources};
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope};
use salon_engine::Secret;
use salon_mock::upstream::{Upstream, UpstreamConfig};
use salon_store::ledger::{CallFilter, Entry, Usage, UsageFilter};

use super::*;

/// A house with a model that says what the question wants.
async fn with_a_model() -> (Upstream, Stage) {
    let upstream = Upstream::start(UpstreamConfig::default()).await.expect("an upstream");
    let spec = format!(
        "[upstreams.openai]\nkind = \"openai\"\nbase_url = \"{}/v1\"\nkey_env = \"OPENAI_API_KEY\"\n\
         [models.gpt]\nupstream = \"openai\"\nmodel = \"mock-gpt\"\nrates = {{ input = \"1\", output = \"2\" }}\noutput = 1000\n",
        upstream.base_url()
    );
    let stage = Stage::with(|config| {
        config.sources = Sources {
            file: toml::from_str(&spec).expect("a catalog"),
            environment: Environment::new(|name| (name == "OPENAI_API_KEY").then(|| Secret::new("sk-birds"))),
            ..Sources::default()
        };
    });
    (upstream, stage.await)
}

/// What the ledger says was used.
async fn used(stage: &Stage) -> Usage {
    stage.house.relay.book.flush().await.expect("the ledger");
    let filter = UsageFilter::of(OrgId::new("default"), Time(0), Time(i64::MAX));
    stage.house.salon.store.read().await.expect("a reader").usage(&filter).await.expect("usage")
}

/// Everything that was charged.
async fn entries(stage: &Stage) -> Vec<Entry> {
    let usage = UsageFilter::of(OrgId::new("default"), Time(0), Time(i64::MAX));
    let filter = CallFilter { usage, before: None, limit: 100 };
    stage.house.salon.store.read().await.expect("a reader").list_entries(&filter).await.expect("entries")
}

async fn asks(browser: &mut Browser<'_>, text: &str, engine: &str) -> (String, String) {
    let page = browser.post("/dialogs", &[("text", text), ("engine", engine)]).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let (path, turn) = page.location().split_once("#t-").expect("a turn");
    let (path, turn) = (path.to_owned(), turn.to_owned());
    browser.answered(&path).await;
    (path, turn)
}

fn offers(page: &str, text: &str) -> bool {
    page.contains(&format!("<button form=\"fill\" name=\"q\" value=\"{text}\">{text}</button>"))
}

const THREE: &str =
    "Storks? [[say:Here they are:\n1. **Why south?**\n2. \"How far?\"\n- Who <b>leads</b>?\n- A fourth?]]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_suggests_what_could_be_asked_next_once_and_only_when_wanted() {
    let (upstream, stage) = with_a_model().await;
    let mut alice = stage.alice().await;
    let (path, turn) = asks(&mut alice, THREE, "gpt").await;
    let page = alice.get(&path).await.body;
    assert!(page.contains("<button form=\"suggest\" class=\"more\">Suggest questions</button>"), "{page}");
    assert!(offers(&page, "Give me an example"), "{page}");
    assert_eq!((upstream.calls().len(), used(&stage).await.calls), (1, 1), "looking costs nothing");

    let suggestions = format!("{path}/suggestions");
    let page = alice.post(&suggestions, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    for text in ["Why south?", "How far?"] {
        assert!(offers(&page.body, text), "{text}: {}", page.body);
    }
    assert!(page.body.contains("Who &#60;b&#62;leads&#60;/b&#62;?"), "{}", page.body);
    assert!(!page.body.contains("A fourth?</button>") && !offers(&page.body, "Give me an example"), "{}", page.body);

    // One call of hers, beside the turn's own.
    let calls = upstream.calls();
    assert_eq!(calls.len(), 2);
    let asked: serde_json::Value = serde_json::from_str(&calls[1].body).expect("JSON");
    assert_eq!(asked["max_tokens"], 150);
    assert!(asked["messages"][0]["content"].as_str().expect("a prompt").starts_with("You are shown a question"));
    let all = used(&stage).await;
    assert_eq!(all.calls, 2);
    let entries = entries(&stage).await;
    let user = stage.user("alice@birds.example").await;
    let hers = |entry: &&Entry| entry.payer.user == user && entry.model == "gpt";
    assert_eq!(entries.iter().filter(hers).count(), 2, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.payer.turn.as_ref().is_some_and(|of| of.as_str() == turn)), "{entries:?}");

    // The same turn is not asked about again, not even by two at once.
    let part = [("sec-fetch-site", "same-origin"), ("x-salon-part", "1")];
    let seal = alice.seal.clone();
    let again = alice.post_as(&suggestions, &[("seal", &seal)], &part).await;
    assert!(offers(&again.body, "How far?") && !again.body.contains("<html"), "{}", again.body);
    alice.post(&format!("{path}/turns"), &[("text", THREE)]).await;
    alice.answered(&path).await;
    let (mut one, mut other) = (alice.again(), alice.again());
    let (one, other) = tokio::join!(one.post(&suggestions, &[]), other.post(&suggestions, &[]));
    assert!(offers(&one.body, "How far?") && offers(&other.body, "How far?"), "{} {}", one.body, other.body);
    assert_eq!((upstream.calls().len(), used(&stage).await.calls), (4, 4));

    // Whatever is chosen fills the box, and is not sent.
    let page = alice.get(&format!("{path}?q=Why%20south%3F")).await.body;
    assert!(page.contains("autofocus>Why south?</textarea>"), "{page}");
    assert_eq!(page.matches("class=\"turn\"").count(), 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_model_can_be_asked_one_sentence_says_why() {
    let (upstream, stage) = with_a_model().await;
    let mut alice = stage.alice().await;
    let parrots = alice.says("hello").await;
    let page = alice.get(&parrots).await.body;
    assert!(!page.contains("Suggest questions") && offers(&page, "Give me an example"), "{page}");
    let page = alice.post(&format!("{parrots}/suggestions"), &[]).await;
    assert_eq!(page.status, 409);
    assert!(page.body.contains("Only a model that you may ask suggests questions."), "{}", page.body);

    let (path, _) = asks(&mut alice, "[[say:---]]", "gpt").await;
    let suggestions = format!("{path}/suggestions");
    let page = alice.post(&suggestions, &[]).await;
    assert_eq!(page.status, 502);
    assert!(page.body.contains("The model had nothing to suggest.") && offers(&page.body, "Give me an example"));

    // Strangers and foreign forms get what they get everywhere.
    let mut bob = stage.bob().await;
    assert_eq!(bob.post(&suggestions, &[]).await.status, 404);
    assert_eq!(alice.post_as(&suggestions, &[("seal", "0")], &[("sec-fetch-site", "same-origin")]).await.status, 403);
    let seal = alice.seal.clone();
    let foreign = alice.post_as(&suggestions, &[("seal", &seal)], &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(foreign.status, 403);

    let calls = upstream.calls().len();
    for (policy, status, sentence) in
        [(Policy::Block, 429, "No suggestions: "), (Policy::Ask, 409, "A limit wants an administrator to agree")]
    {
        let limit = Limit {
            id: LimitId::new(stage.house.salon.clock.id()),
            org: OrgId::new("default"),
            scope: Scope::User,
            subject: None,
            measure: Measure::Requests,
            period: Period::Day,
            amount: 1,
            policy,
            thresholds: vec![100],
        };
        let (book, pen) = (&stage.house.relay.book, stage.house.salon.pen(Actor::Operator));
        assert!(book.add_limit(limit.clone(), &pen).await.expect("a limit"));
        let page = alice.post(&suggestions, &[]).await;
        assert_eq!(page.status, status, "{}", page.body);
        assert!(page.body.contains(sentence) && offers(&page.body, "Give me an example"), "{}", page.body);
        assert!(book.remove_limit(&limit.org, &limit.id, &pen).await.expect("no limit"));
    }
    assert_eq!(upstream.calls().len(), calls, "nobody was asked");
    // What an administrator agreed to is asked, under the number that was agreed to.
    let mut tx = stage.house.salon.store.read().await.expect("a reader");
    let held = tx.list_held(&OrgId::new("default"), None, 9).await.expect("calls");
    drop(tx);
    let [call] = held.as_slice() else { panic!("{held:?}") };
    let pen = stage.house.salon.pen(Actor::Operator);
    assert!(stage.house.relay.book.approve(&call.payer.org, &call.id, &pen).await.expect("a yes"));
    alice.post(&suggestions, &[]).await;
    assert_eq!(upstream.calls().len(), calls + 1);
    stage.house.relay.book.flush().await.expect("the ledger");
    let mut tx = stage.house.salon.store.read().await.expect("a reader");
    let call = tx.find_call(&call.payer.org, &call.id).await.expect("a look").expect("the call");
    drop(tx);
    assert_eq!(call.state.as_str(), "settled");
    stage.close().await;
}
