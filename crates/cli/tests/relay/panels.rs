//! Several models that answer one question, seen from outside: who is asked, what goes upstream, and what it costs.

use std::time::Duration;

use salon::audit::Actor;
use salon::engines::Choice;
use salon::panels::{self, PanelSpec};
use salon::people::{OrgChange, set_org};
use salon_cli::config::{Config, EngineConfig};
use salon_core::panel::Panel;
use salon_core::people::Role;
use salon_core::{Note, Owner, Reply, Scopes};
use salon_mock::{Mock, MockConfig};
use serde_json::{Value, json};

use crate::stage::{PROVIDER_KEY, Stage, question};

const TOKEN: &str = "1001:parrot-token";
const CHAT: i64 = 1001;
const ALICE: i64 = 9001;

/// Three models, so that it shows who was asked.
const COUNCIL: &str = r#"{"ceiling":"1","voices":[
    {"name":"Solver","part":"solver","model":"gpt"},
    {"name":"Critic","part":"critic","model":"claude"},
    {"name":"Checker","part":"checker","model":"gemini"},
    {"name":"Synth","part":"synth","model":"gpt"}]}"#;

fn panel(name: &str, change: impl FnOnce(&mut PanelSpec)) -> Panel {
    let mut spec: PanelSpec = serde_json::from_str(COUNCIL).unwrap();
    change(&mut spec);
    spec.panel(name).unwrap()
}

fn with_panels(config: &mut Config) {
    config.engines =
        vec![EngineConfig { name: "model".to_owned(), upstream: None, choice: Choice::Named("gpt".to_owned()) }];
    config.panels = vec![
        panel("council", |_| {}),
        panel("always", |spec| spec.gate = Some("always".to_owned())),
        panel("twice", |spec| (spec.gate, spec.rounds) = (Some("always".to_owned()), Some(2))),
        panel("asks", |spec| spec.gate = Some("model:claude".to_owned())),
        // Enough for the solver and for nobody else.
        panel("frugal", |spec| (spec.gate, spec.ceiling) = (Some("always".to_owned()), Some("0.002".to_owned()))),
        panel("poor", |spec| spec.ceiling = Some("0.0001".to_owned())),
        panel("row", |spec| {
            spec.gate = Some("always".to_owned());
            spec.voices[2].hears.push("Critic".to_owned());
        }),
    ];
}

async fn stage() -> Stage {
    Stage::with(with_panels).await
}

fn models(stage: &Stage) -> Vec<String> {
    stage.upstream.calls().into_iter().map(|call| call.model).collect()
}

fn body(stage: &Stage, at: usize) -> Value {
    serde_json::from_str(&stage.upstream.calls()[at].body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_question_costs_one_call_at_every_door() {
    let stage = stage().await;
    for (at, door) in ["chat", "completions", "responses", "messages", "generate"].into_iter().enumerate() {
        for stream in [false, true] {
            stage.upstream.forget_calls();
            let (path, body) = question(door, "salon/council", "[[say:two storks]]", stream);
            let path = path.replace("salon/council", "salon%2Fcouncil");
            let response = stage.post(&path, &body).await;
            let (status, cost) = (response.status(), response.headers().get("x-salon-cost").cloned());
            let text = response.text().await.unwrap();
            assert_eq!(status, 200, "{door}: {text}");
            assert!(text.contains("two") && text.contains("storks"), "{door}: {text}");
            assert_eq!(models(&stage), ["mock-gpt"], "{door}");
            assert_eq!(cost.is_some(), !stream, "{door}");
            assert_eq!(
                stage.used().await.calls,
                2 * at as i64 + 1 + i64::from(stream),
                "{door}: one entry for one voice"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_risky_question_is_reviewed_and_the_synth_has_the_last_word() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/council", "Which tax do I pay? [[words=12]]", false);
    let response = stage.post(&path, &asked).await;
    let cost = salon_core::Micros::parse(response.headers()["x-salon-cost"].to_str().unwrap()).unwrap();
    let answer: Value = response.json().await.unwrap();
    let mut asked = models(&stage);
    assert_eq!((asked.len(), asked[0].as_str(), asked[3].as_str()), (4, "mock-gpt", "mock-gpt"), "{asked:?}");
    asked[1..3].sort();
    assert_eq!(asked[1..3], ["mock-claude", "mock-gemini"]);
    // Caps, in each upstream's words.
    assert_eq!(body(&stage, 0)["max_tokens"], 500);
    assert_eq!(body(&stage, 3)["max_tokens"], 700);
    for at in [1, 2] {
        let body = body(&stage, at);
        let cap = body["max_tokens"].as_i64().or(body["generationConfig"]["maxOutputTokens"].as_i64());
        assert_eq!(cap, Some(200), "{body}");
    }
    // Everybody is shown what was said before.
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(said.split_whitespace().count(), 12, "{said}");
    let synth = body(&stage, 3)["messages"].to_string();
    for heard in ["Draft of Solver", "Remarks of Critic", "Remarks of Checker", "Which tax"] {
        assert!(synth.contains(heard), "{heard}: {synth}");
    }
    let thoughts = answer["choices"][0]["message"]["reasoning_content"].as_str().unwrap_or_default();
    for speaker in ["Solver: ", "Critic: ", "Checker: "] {
        assert!(thoughts.contains(speaker), "{answer}");
    }
    // The bill is the sum of the voices', and so is the usage.
    let used = stage.used().await;
    assert_eq!((used.calls, used.micros), (4, cost.0), "{used:?}");
    let usage = &answer["usage"];
    assert_eq!(
        usage["prompt_tokens"].as_i64().unwrap() + usage["completion_tokens"].as_i64().unwrap(),
        used.tokens.total()
    );
    assert!(stage.upstream.calls().iter().all(|call| call.key.as_deref() == Some(PROVIDER_KEY)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voices_are_thoughts_on_a_stream_of_either_protocol() {
    let stage = stage().await;
    for door in ["chat", "messages"] {
        let (path, asked) = question(door, "salon/always", "Hi [[words=9]]", true);
        let text = stage.post(&path, &asked).await.text().await.unwrap();
        let frames: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
        let gather = |paths: [&str; 2]| {
            frames
                .iter()
                .filter_map(|frame| paths.iter().find_map(|path| frame.pointer(path)?.as_str()))
                .collect::<String>()
        };
        let thoughts = gather(["/choices/0/delta/reasoning_content", "/delta/thinking"]);
        let said = gather(["/choices/0/delta/content", "/delta/text"]);
        assert!(thoughts.contains("Solver: ") && thoughts.contains("Checker: "), "{door}: {text}");
        assert_eq!(said.split_whitespace().count(), 9, "{door}: {said}");
        assert!(!said.contains("Critic"), "{door}: {said}");
    }
    assert_eq!(stage.used().await.calls, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_that_find_nothing_end_it_early() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/always", "[[say:OK]]", false);
    let answer: Value = stage.post(&path, &asked).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "OK");
    let mut asked = models(&stage);
    asked.sort();
    assert_eq!(asked, ["mock-claude", "mock-gemini", "mock-gpt"], "no synth");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_answer_that_is_not_sure_is_reviewed() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/council", "Hi [[say:UNSURE: perhaps four]]", false);
    let answer: Value = stage.post(&path, &asked).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "perhaps four");
    assert_eq!(models(&stage).len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_are_as_many_as_were_said() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/twice", "Hi [[words=15]]", false);
    assert_eq!(stage.post(&path, &asked).await.status(), 200);
    assert_eq!(models(&stage).len(), 7, "a solver, and twice three");
    assert!(body(&stage, 4).to_string().contains("Answer of Synth"), "the second round reviews the first one's draft");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_another_hears_it() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/row", "Hi [[words=15]]", false);
    assert_eq!(stage.post(&path, &asked).await.status(), 200);
    assert_eq!(models(&stage), ["mock-gpt", "mock-claude", "mock-gemini", "mock-gpt"]);
    assert!(body(&stage, 2).to_string().contains("Remarks of Critic"));
    assert!(!body(&stage, 1).to_string().contains("Remarks of"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_can_be_the_gate() {
    let stage = stage().await;
    for (words, calls) in [("[[say:SIMPLE]]", 2), ("[[say:MULTI]]", 5)] {
        stage.upstream.forget_calls();
        let (path, asked) = question("chat", "salon/asks", words, false);
        assert_eq!(stage.post(&path, &asked).await.status(), 200);
        assert_eq!(models(&stage).len(), calls, "{words}");
        assert_eq!(models(&stage)[0], "mock-claude");
        assert_eq!(body(&stage, 0)["max_tokens"], 16);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_holds() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/frugal", "Hi [[words=9]]", false);
    let answer: Value = stage.post(&path, &asked).await.json().await.unwrap();
    assert_eq!(models(&stage), ["mock-gpt"], "nobody is asked whom there is no money to heed: {answer}");
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().split_whitespace().count(), 9);
    stage.upstream.forget_calls();
    let (path, asked) = question("chat", "salon/poor", "Hi", false);
    let response = stage.post(&path, &asked).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_client_error() && text.contains("over_ceiling") && text.contains("$0.0001"), "{status} {text}");
    assert!(models(&stage).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_nobody_is_asked_and_one_sentence_says_why() {
    let stage = Stage::with(|config| {
        with_panels(config);
        config.sources.environment = salon::catalog::Environment::new(|name| {
            name.starts_with("OPENAI").then(|| salon_engine::Secret::new(PROVIDER_KEY))
        });
    })
    .await;
    let (path, asked) = question("chat", "salon/council", "Hi", false);
    let response = stage.post(&path, &asked).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 403, "{text}");
    for word in ["no_provider_key", "anthropic (Critic)", "google (Checker)", "salon secret add anthropic"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(models(&stage).is_empty());
    assert_eq!(stage.used().await.calls, 0);
    // Nor is it offered.
    let list = stage.http.get(format!("{}/v1/models", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
    let list = list.text().await.unwrap();
    assert!(list.contains("salon/default") && !list.contains("salon/council"), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_hold_for_panels_and_for_their_voices() {
    use salon_core::scopes::Allowed;
    let stage = stage().await;
    for models in ["gpt", "salon/*", "salon/council, gpt"] {
        let scopes = Scopes { models: Allowed::parse(models).unwrap(), ..Scopes::default() };
        let key = stage.key_of(scopes).await;
        let (path, asked) = question("chat", "salon/council", "Hi", false);
        assert_eq!(stage.post_as(&key, &path, &asked, &[]).await.status(), 403, "{models}");
    }
    assert!(models(&stage).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_panel_cannot_carry_is_refused() {
    let stage = stage().await;
    let (path, mut asked) = question("chat", "salon/council", "Hi", false);
    asked["tools"] =
        json!([{ "type": "function", "function": { "name": "storks", "parameters": { "type": "object" } } }]);
    assert_eq!(stage.post(&path, &asked).await.status(), 400);
    let (path, asked) = question("chat", "salon/nobody", "Hi", false);
    assert_eq!(stage.post(&path, &asked).await.status(), 404);
    let asked = json!({ "model": "salon/council", "input": "Hi" });
    assert!(stage.post("/v1/embeddings", &asked).await.status().is_client_error());
    assert!(models(&stage).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_panel_wins_over_the_teams_and_that_over_the_houses() {
    let stage = stage().await;
    let salon = &stage.house.salon;
    let find = async |name: &str| {
        let caller = stage.caller().await;
        panels::find(salon, &caller, name).await.unwrap()
    };
    let alice = stage.caller().await;
    assert_eq!(alice.role, Role::Admin);
    assert_eq!(find("council").await.unwrap().rounds, 1);
    let org = Owner::Org(alice.org.clone());
    panels::save(salon, &alice, org.clone(), &panel("council", |spec| spec.rounds = Some(2))).await.unwrap();
    assert_eq!(find("council").await.unwrap().rounds, 2);
    let own = Owner::User(alice.user.clone());
    panels::save(salon, &alice, own.clone(), &panel("council", |spec| spec.ceiling = Some("0.5".into())))
        .await
        .unwrap();
    assert_eq!(find("council").await.unwrap().ceiling.0, 500_000);
    assert_eq!(panels::list(salon, &alice).await.unwrap().iter().filter(|f| f.panel.name == "council").count(), 1);
    // Unknown models, panels in panels, and other people's panels are refused.
    for model in ["nobody", "salon/council"] {
        let wrong = panel("council", |spec| spec.voices[0].model = Some(model.to_owned()));
        assert!(panels::save(salon, &alice, own.clone(), &wrong).await.is_err(), "{model}");
    }
    let bob = salon::Caller { role: Role::User, user: salon_core::UserId::new("bob"), ..(*alice).clone() };
    for owner in [&own, &org] {
        assert!(panels::save(salon, &bob, owner.clone(), &panel("council", |_| {})).await.is_err());
        assert!(panels::remove(salon, &bob, owner.clone(), "council").await.is_err());
    }
    assert!(panels::remove(salon, &alice, own.clone(), "council").await.unwrap());
    assert!(!panels::remove(salon, &alice, own, "council").await.unwrap());
    assert_eq!(find("council").await.unwrap().rounds, 2);
}

/// A bot that a panel answers.
async fn with_a_bot(adapter: &str) -> (Mock, Stage) {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let telegram = mock.base_url().to_owned();
    let stage = Stage::with(|config| {
        with_panels(config);
        config.around.api_base = telegram;
        config.around.open = true;
        let list = format!("bots:\n  - bot_id: parrot\n    adapter: \"{adapter}\"\n    telegram_token: \"{TOKEN}\"\n");
        std::fs::write(&config.bots_file, list).unwrap();
    })
    .await;
    (mock, stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turns_voices_stand_in_its_log_with_what_they_cost() {
    let (mock, stage) = with_a_bot("panel:always").await;
    mock.says(TOKEN, CHAT, ALICE, "Hi [[words=9]]");
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    let reply = loop {
        assert!(tokio::time::Instant::now() < patience, "no answer: {:?}", mock.bot_texts(TOKEN, CHAT));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut tx = stage.house.salon.store.read().await.unwrap();
        let bot = salon_core::BotId::new("parrot");
        let Some(dialog) = tx.find_active_dialog(&bot, salon_core::ChatId(CHAT)).await.unwrap() else { continue };
        let turns = tx.list_turns_before(&dialog.id, 9, 9).await.unwrap();
        let Some(turn) = turns.first() else { continue };
        let events = tx.list_events(&turn.id, 0, 1_000).await.unwrap();
        let reply = Reply::fold(&events);
        if reply.is_final() {
            let gates =
                events.iter().filter(|at| matches!(at.event, salon_core::Event::Note(Note::Gate { .. }))).count();
            assert_eq!(gates, 1);
            break reply;
        }
    };
    assert_eq!(reply.text.split_whitespace().count(), 9, "{reply:?}");
    let voices: Vec<_> = reply.voices.iter().map(|voice| (voice.speaker.as_str(), voice.answers)).collect();
    assert_eq!(voices, [("Solver", false), ("Critic", false), ("Checker", false), ("Synth", true)]);
    assert!(reply.voices.iter().all(|voice| voice.micros > 0 && voice.tokens_out > 0), "{:?}", reply.voices);
    let spent: i64 = reply.voices.iter().map(|voice| voice.micros).sum();
    let panel = reply.panel.unwrap();
    assert_eq!((panel.panel.as_str(), panel.gate), ("always", Some((true, "always".to_owned()))));
    assert!(spent <= panel.most_micros && panel.most_micros <= panel.ceiling_micros, "{spent} {}", panel.most_micros);
    let used = stage.used().await;
    assert_eq!((used.calls, used.micros), (4, spent));
    mock.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_the_voices_beside_the_answer() {
    let stage = stage().await;
    let open = json!({ "metadata": {} });
    let session: Value = stage.post("/api/sessions", &open).await.json().await.unwrap();
    let ask = |text: &str| json!({ "session_id": session["session_id"], "message": text, "model": "panel:always" });
    let told = async |query: &str| {
        let text = stage.post(&format!("/api/chat/stream{query}"), &ask("Hi [[words=9]]")).await.text().await.unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect::<Vec<Value>>()
    };
    let frames = told("").await;
    let of = |kind: &'static str| frames.iter().filter(move |frame| frame["type"] == kind);
    let seats: Vec<_> = of("seated").flat_map(|frame| frame["seats"].as_array().unwrap()).collect();
    assert_eq!((seats.len(), &seats[1]["part"]), (4, &json!("critic")), "{frames:?}");
    let mut ended: Vec<_> = of("voice_ended").map(|frame| frame["speaker"].as_str().unwrap()).collect();
    ended[1..3].sort_unstable();
    assert_eq!(ended, ["Solver", "Checker", "Critic", "Synth"]);
    assert!(of("voice_ended").all(|frame| frame["micros"].as_i64().unwrap() > 0), "{frames:?}");
    let of_critic = of("voice_text").filter(|frame| frame["speaker"] == "Critic");
    let said: String = of_critic.filter_map(|frame| frame["content"].as_str()).collect();
    assert_eq!(said.split_whitespace().count(), 9, "{frames:?}");
    let answer: String = of("token").filter_map(|frame| frame["content"].as_str()).collect();
    assert_eq!(answer.split_whitespace().count(), 9, "the answer alone is its words: {frames:?}");

    let mut kinds: Vec<_> = told("?frames=chunk").await.iter().map(|frame| frame["type"].to_string()).collect();
    kinds.dedup();
    assert_eq!(kinds, ["\"start\"", "\"chunk\"", "\"complete\""], "the oldest clients are told what they know");

    let whole: Value = stage.post("/api/chat", &ask("Hi [[words=9]]")).await.json().await.unwrap();
    let voices = whole["voices"].as_array().unwrap();
    assert_eq!(voices.len(), 4, "{whole}");
    let synth = voices.iter().find(|voice| voice["part"] == "synth").unwrap();
    assert_eq!((&synth["answers"], &synth["content"]), (&json!(true), &json!("")));
    let critic = voices.iter().find(|voice| voice["part"] == "critic").unwrap();
    assert_eq!(critic["content"].as_str().unwrap().split_whitespace().count(), 9, "{whole}");
    let plain = json!({ "session_id": session["session_id"], "message": "Hi", "model": "gpt" });
    let plain: Value = stage.post("/api/chat", &plain).await.json().await.unwrap();
    assert_eq!(plain.get("voices"), None, "{plain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_identifies_people_does_not_leave_where_the_team_says_so() {
    let (mock, stage) = with_a_bot("gpt").await;
    let store = &stage.house.salon.store;
    let change = OrgChange { mask: Some(salon_core::mask::Mask::All), ..OrgChange::default() };
    set_org(store, &stage.house.salon.pen(Actor::Operator), "default", change).await.unwrap();
    mock.says(TOKEN, CHAT, ALICE, "Write to alice@example.org [[say:done]]");
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text == "done")).await;
    let (path, asked) = question("chat", "salon/council", "Call 010-1234-5678 [[say:done]]", false);
    assert_eq!(stage.post(&path, &asked).await.status(), 200);
    let sent: Vec<_> = stage.upstream.calls().into_iter().map(|call| call.body).collect();
    assert!(sent[0].contains("[email]") && !sent[0].contains("alice@"), "{sent:?}");
    assert!(sent[1].contains("[phone]") && !sent[1].contains("1234"), "{sent:?}");
    mock.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_ends_every_voice() {
    let stage = stage().await;
    let (path, asked) = question("chat", "salon/always", "Hi [[hold]]", true);
    let asking = stage.post(&path, &asked);
    assert!(tokio::time::timeout(Duration::from_millis(700), asking).await.is_err(), "nobody has ended yet");
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !stage.upstream.calls().iter().any(|call| call.abandoned) {
        assert!(tokio::time::Instant::now() < patience, "{:?}", stage.upstream.calls());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(models(&stage), ["mock-gpt"], "nobody else is asked any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_for_each_voice() {
    let stage = stage().await;
    let limit = salon_core::Limit {
        id: salon_core::LimitId::new(stage.house.salon.clock.id()),
        org: salon_core::OrgId::new("default"),
        scope: salon_core::Scope::User,
        subject: None,
        measure: salon_core::Measure::Requests,
        period: salon_core::Period::Day,
        amount: 1,
        policy: salon_core::Policy::Block,
        thresholds: vec![80, 90, 100],
    };
    assert!(
        stage.house.relay.book.add_limit(limit, &stage.house.salon.pen(salon::audit::Actor::Operator)).await.unwrap()
    );
    let (path, asked) = question("chat", "salon/always", "Hi [[words=9]]", false);
    let answer: Value = stage.post(&path, &asked).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().split_whitespace().count(), 9, "{answer}");
    assert_eq!(models(&stage), ["mock-gpt"], "the solver's answer is what there is");
    assert_eq!(stage.post(&path, &asked).await.status(), 429);
    assert_eq!(models(&stage).len(), 1);
}

/// A limit beyond which an administrator has to agree, for each person.
async fn ask_beyond(stage: &Stage, requests: i64) {
    let limit = salon_core::Limit {
        id: salon_core::LimitId::new(stage.house.salon.clock.id()),
        org: salon_core::OrgId::new("default"),
        scope: salon_core::Scope::User,
        subject: None,
        measure: salon_core::Measure::Requests,
        period: salon_core::Period::Day,
        amount: requests,
        policy: salon_core::Policy::Ask,
        thresholds: vec![100],
    };
    assert!(stage.house.relay.book.add_limit(limit, &stage.house.salon.pen(Actor::Operator)).await.unwrap());
}

async fn held(stage: &Stage) -> Vec<salon_store::ledger::Call> {
    let mut tx = stage.house.salon.store.read().await.unwrap();
    tx.list_held(&salon_core::OrgId::new("default"), None, 9).await.unwrap()
}

/// What waits for an administrator, once something does.
async fn waits(stage: &Stage) -> salon_store::ledger::Call {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match held(stage).await.as_slice() {
            [] => assert!(tokio::time::Instant::now() < patience, "nothing waits"),
            [call] => return call.clone(),
            several => panic!("one question waits once: {several:?}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn approve(stage: &Stage, call: &salon_store::ledger::Call) {
    let pen = stage.house.salon.pen(Actor::Operator);
    assert!(stage.house.relay.book.approve(&call.payer.org, &call.id, &pen).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panel_that_waits_for_a_yes_goes_on_with_all_of_its_voices() {
    let (mock, stage) = with_a_bot("panel:always").await;
    // Enough for three of the four.
    ask_beyond(&stage, 3).await;
    mock.says(TOKEN, CHAT, ALICE, "Hi [[say:two storks]]");
    let call = waits(&stage).await;
    assert_eq!((call.model.as_str(), call.most.requests), ("salon/always", 4), "the whole quote is asked about");
    assert!(models(&stage).is_empty(), "nobody is asked before");
    approve(&stage, &call).await;
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text.starts_with("two storks"))).await;
    assert_eq!(models(&stage).len(), 4);
    assert_eq!(stage.used().await.calls, 4);
    assert_eq!(held(&stage).await, [], "no voice waits by itself");
    let mut tx = stage.house.salon.store.read().await.unwrap();
    let whole = tx.find_call(&call.payer.org, &call.id).await.unwrap().unwrap();
    drop(tx);
    assert_eq!(whole.state.as_str(), "released", "what nobody took is given back");
    assert_eq!(stage.house.relay.book.check().await.unwrap(), []);

    // A no ends the next one.
    mock.says(TOKEN, CHAT, ALICE, "And now? [[say:three storks]]");
    let call = waits(&stage).await;
    let pen = stage.house.salon.pen(Actor::Operator);
    assert!(stage.house.relay.book.deny(&call.payer.org, &call.id, &pen).await.unwrap());
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text.contains("An administrator has to agree")))
        .await;
    assert_eq!(models(&stage).len(), 4);
    mock.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panel_of_a_program_is_sent_again_once_somebody_agreed() {
    let stage = stage().await;
    ask_beyond(&stage, 3).await;
    let (path, asked) = question("chat", "salon/always", "Hi [[words=9]]", false);
    let refused = stage.post(&path, &asked).await;
    assert_eq!(refused.status(), 429, "{}", refused.text().await.unwrap());
    let call = waits(&stage).await;
    approve(&stage, &call).await;
    let again = [("x-salon-call", call.id.as_str())];
    let answer = stage.post_as(&stage.key, &path, &asked, &again).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    assert_eq!((models(&stage).len(), stage.used().await.calls), (4, 4), "{text}");
    assert_eq!(stage.post_as(&stage.key, &path, &asked, &again).await.status(), 409, "a yes is good once");
    // A question to one alone fits; a panel with room for all of it is not asked about.
    assert_eq!(held(&stage).await, []);
}
