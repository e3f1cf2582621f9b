//! `salon upstream` and `salon model` as processes, beside an open Salon and without one.

#[path = "house/mod.rs"]
mod house;

use std::process::Output;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::routing::get;
use salon::catalog::{Access, NoRoute};
use salon_cli::house::House;
use salon_core::Micros;
use salon_engine::wire::Wire;
use salon_mock::upstream::{Upstream, UpstreamConfig};
use salon_store::Place;
use salon_store::testing::{drop_database, postgres_database};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

/// A working folder, and commands in it.
struct Desk {
    folder: TempDir,
    place: Place,
    env: Vec<(&'static str, &'static str)>,
}

impl Desk {
    fn new(config: &str) -> Desk {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("salon.toml"), config).expect("a configuration");
        let place = Place::Folder(folder.path().join("data"));
        Desk { folder, place, env: Vec::new() }
    }

    fn run(&self, words: &str) -> Output {
        #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
        command.args(words.split(' ')).current_dir(self.folder.path()).env_clear().envs(self.env.iter().copied());
        if let Place::Postgres(url) = &self.place {
            command.env("DATABASE_URL", url);
        }
        command.output().expect("the program starts")
    }

    /// What a command prints that must succeed.
    fn says(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "salon {words}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command says that must fail.
    fn refuses(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "salon {words}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    async fn house(&self) -> House {
        let config = house::config(self.folder.path(), self.place.clone(), "http://127.0.0.1:9");
        House::open(&config).await.expect("a house")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text").trim().to_owned()
}

/// Lists two models to whoever shows the right key, and answers where it is.
async fn server(key: Option<&'static str>) -> String {
    let list = move |request: Request| async move {
        let shown = request.headers().get("authorization").and_then(|shown| shown.to_str().ok());
        if key.is_some() && shown != key {
            return Err(axum::http::StatusCode::UNAUTHORIZED);
        }
        Ok(Json(json!({ "data": [{ "id": "parrot-1" }, { "id": "parrot-2\u{1b}[31m" }] })))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/v1/models", get(list))).into_future());
    base
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_come_are_asked_change_and_go() {
    let base = server(Some("Bearer right")).await;
    tokio::task::block_in_place(|| {
        let mut desk = Desk::new("");
        desk.env = vec![("GPU_API_KEY", "right"), ("WRONG_API_KEY", "wrong")];
        desk.says(&format!("upstream add gpu --kind compatible --url {base} --key-env GPU_API_KEY --at-once 4"));
        assert!(desk.says("upstream list").contains(&format!("gpu  compatible  {base}  key in GPU_API_KEY")));
        let checked = desk.says("upstream check gpu");
        assert_eq!(checked, "ok    gpu  2 models: parrot-1, parrot-2[31m", "what a server says stays on its line");
        desk.says("upstream set gpu --key-env WRONG_API_KEY");
        let output = desk.run("upstream check gpu");
        assert!(!output.status.success());
        assert_eq!(text(&output.stdout), "BAD   gpu  The model's provider did not accept the key.");
        desk.says("upstream set gpu --off");
        assert!(!desk.says("upstream list").contains("gpu"));
        desk.says("upstream set gpu --on --key none");
        assert!(desk.says("upstream list").contains("no key"));
        for (words, why) in [
            ("upstream add gpu --kind openai", "there is an upstream gpu already"),
            ("upstream add x --kind compatible", "say its base_url"),
            ("upstream add x --kind parrot", "the kinds are openai"),
            ("upstream add x --kind openai --key sk-123", "never the key itself"),
            ("upstream add x --kind openai --key-env MASTER_KEY", "MASTER_KEY is no name of a key"),
            ("upstream add x --kind openai --org birds --url http://169.254.169.254", "This address cannot be used"),
            ("upstream add x --kind openai --header host=a", "the header host cannot be sent"),
            ("upstream set nobody --off", "there is no upstream nobody"),
            ("upstream check nobody", "there is no upstream nobody"),
            ("upstream remove nobody", "there is no upstream nobody"),
        ] {
            let said = desk.refuses(words);
            assert!(said.contains(why), "salon {words}: {said}");
        }
        desk.says("upstream remove gpu");
        assert!(!desk.says("upstream list").contains("gpu"));
    });
}

#[test]
fn models_have_places_prices_and_names() {
    let desk = Desk::new("[upstreams.own]\nkind = 'compatible'\nbase_url = 'http://127.0.0.1:9/v1'\n");
    desk.says("model add fast --at own/small=3,own/large --fallback echo --alias quick --input 0.15 --output 0.60");
    assert!(desk.says("model list").contains("fast  own/small, own/large  $0.15 / $0.60  else echo"));
    desk.says("model set fast --at own/small --ability tools,images --context 1000");
    assert!(desk.says("model list").contains("fast  own/small  $0.15 / $0.60  else echo"), "what is not said stays");
    desk.says("model add plain --at own/plain");
    assert!(desk.says("model list").contains("plain  own/plain  at most $"));
    desk.says("model price own plain --from 2020-01-01 --input 1 --output 2.000001");
    assert!(desk.says("model list").contains("plain  own/plain  $1.00 / $2.000001"));
    desk.says("model price own plain --from 2020-01-01 --input 1 --output 2 --long-above 200000 --long-input 3 --long-output 4.5");
    assert!(desk.says("model list").contains("plain  own/plain  $1.00 / $2.00, above 200000 tokens $3.00 / $4.50"));
    desk.says("model price own plain --from 2020-01-01 --tier priority --input 4 --output 8");
    let listed = desk.says("model list");
    assert!(listed.contains("plain  own/plain  $1.00 / $2.00, above"), "the others stay: {listed}");
    assert!(listed.contains("fast $4.00 / $8.00"), "{listed}");
    desk.says("model price own plain --from 2020-01-01 --forget");
    assert!(desk.says("model list").contains("plain  own/plain  at most $"));
    assert!(!desk.says("model list").contains("claude-haiku-4-5"), "nobody here has a key for it");
    for (words, why) in [
        ("model add fast --at own", "there is a model fast already"),
        ("model add x", "say where it is served"),
        ("model add x --at nobody/y", "there is no upstream nobody"),
        ("model add ../x --at own/y", "a name has letters"),
        ("model add x --at own/y --input 1.0000001 --output 1", "a price is in dollars"),
        ("model add x --at own/y --alias echo", "the alias echo is taken"),
        ("model set echo --hidden true", "salon model add echo"),
        ("model set nobody --hidden true", "there is no model nobody"),
        ("model remove nobody", "there is no model nobody"),
        ("model price own plain --from soon --input 1 --output 1", "a day is written like"),
        ("model price own plain --from 2020-01-01", "say what it costs"),
        ("model price own plain --from 2020-01-01 --forget", "nothing was said"),
        ("model price own plain --from 2020-01-01 --tier fast --input 1 --output 1", "what it usually costs first"),
        ("model price own plain --from 2020-01-01 --tier usual --input 1 --output 1", "the tiers are flex"),
        ("model price own plain --from 2020-01-01 --input 1 --output 1 --long-above 9", "--long-input"),
        (
            "model price own plain --from 2020-01-01 --input 1 --output 1 --long-above 0 --long-input 1 --long-output 1",
            "a price is in dollars",
        ),
        ("upstream remove own", "own stands in the configuration"),
    ] {
        let said = desk.refuses(words);
        assert!(said.contains(why), "salon {words}: {said}");
    }
    desk.says("model remove fast");
    assert!(!desk.says("model list").contains("fast"));
}

#[test]
fn a_configuration_that_cannot_be_right_says_where() {
    for (config, why) in [
        ("[upstreams.x]\nkynd = 'openai'\n", "unknown field `kynd`"),
        ("[relay]\nlan_allow = ['http://x/']\n", "http://x/ is no host"),
        ("[relay]\nunknown_price = 'cheap'\n", "unknown variant `cheap`"),
        ("[relay]\nupper_bound = { input = '1', output = 'x' }\n", "a price is in dollars"),
        ("[relay]\nmax_body_bytes = 1\n", "max_body_bytes is between"),
        ("[relay]\nprices = 'nowhere.toml'\n", "nowhere.toml cannot be read"),
        ("[relay]\nprices = 'salon.toml'\n", "the list of prices cannot be understood"),
    ] {
        let said = Desk::new(config).refuses("model list");
        assert!(said.contains(why), "{config}: {said}");
    }
    let unusable = Desk::new("[models.x]\nupstream = 'nobody'\n").run("model list");
    assert!(!unusable.status.success());
    assert!(text(&unusable.stderr).contains("model x: there is no upstream nobody"), "{}", text(&unusable.stderr));
}

#[test]
fn a_list_of_ones_own_takes_the_place_of_the_shipped_one() {
    let mut desk = Desk::new("[relay]\nprices = 'prices.toml'\n");
    let list =
        "[[price]]\nprovider = 'openai'\nmodel = 'parrot-9'\nvalid_from = '2020-01-01'\ninput = '7'\noutput = '8'\n";
    std::fs::write(desk.folder.path().join("prices.toml"), list).expect("a list");
    desk.env = vec![("OPENAI_API_KEY", "k")];
    let said = desk.says("model list");
    assert!(said.contains("parrot-9  openai/parrot-9  $7.00 / $8.00"), "{said}");
    assert!(!said.contains("gpt-4o"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_salon_takes_changes_in_at_once() {
    let desk = Desk::new("");
    let house = desk.house().await;
    let catalog = &house.relay.catalog;
    assert!(matches!(catalog.route("mine", Wire::Chat, None), Err(NoRoute::Unknown { .. })));
    tokio::task::block_in_place(|| {
        desk.says("upstream add gpu --kind compatible --url http://127.0.0.1:9/v1 --unknown-price free");
        desk.says("model add mine --at gpu/any");
        desk.says("model price gpu other --from 2020-01-01 --input 3 --output 4");
    });
    assert_eq!(catalog.route("mine", Wire::Chat, None).expect("a route").most(1_000_000, 0), Micros(0));
    assert_eq!(catalog.route("other", Wire::Chat, None).expect("a route").most(1_000_000, 0), Micros(3_000_000));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_running_salon_tells_how_its_upstreams_have_been_doing() {
    let desk = Desk::new("");
    let said = tokio::task::block_in_place(|| desk.refuses("upstream health"));
    assert!(said.contains("only a running one knows"), "{said}");
    let house = desk.house().await;
    let asked = async {
        let route = house.relay.catalog.route("echo", Wire::Chat, None).expect("a route");
        let mut turns = route.turns(|_| Some(Access::house(None))).expect("somebody");
        turns.next().expect("it is well").succeeded();
    };
    let before = tokio::task::block_in_place(|| desk.says("upstream health"));
    asked.await;
    let after = tokio::task::block_in_place(|| desk.says("upstream health echo"));
    assert_eq!(before, "");
    assert_eq!(after, "echo/echo with house: well, 0 under way, 0 of 1 tries failed, 0 in a row");
    assert!(tokio::task::block_in_place(|| desk.refuses("upstream health nobody")).contains("no upstream nobody"));
    house.close().await;
}

/// How long a change may take to be heard of by another process; much more than it takes.
const NEWS: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_salon_elsewhere_hears_of_changes_in_its_database() {
    let upstream = Upstream::start(UpstreamConfig::default()).await.expect("an upstream");
    let mut desk = Desk::new("");
    desk.place = Place::Postgres(postgres_database().await);
    let house = desk.house().await;
    let says = |words: &str| tokio::task::block_in_place(|| desk.says(words));
    says("user add alice");
    let key = says("key add laptop --user alice --quiet");
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
    let url = format!("http://{}/v1/chat/completions", house.address.expect("it listens"));
    let question = json!({ "model": "mine", "messages": [{ "role": "user", "content": "[[say:two storks]]" }] });
    // Status and price of an answer.
    let ask = async || {
        let answer = http.post(&url).bearer_auth(&key).json(&question).send().await.expect("an answer");
        let cost = answer.headers().get("x-salon-cost").and_then(|cost| cost.to_str().ok()).map(str::to_owned);
        (answer.status().as_u16(), cost)
    };
    // The commands are processes of their own; what they change is heard of here by itself.
    let becomes = async |what: &str, status: u16, cost: Option<&str>| {
        let since = Instant::now();
        loop {
            let (got, paid) = ask().await;
            if got == status && (cost.is_none() || paid.as_deref() == cost) {
                return;
            }
            assert!(since.elapsed() < NEWS, "{what}: after two seconds it is still {got}, {paid:?}");
        }
    };
    assert_eq!(ask().await.0, 404);
    says(&format!("upstream add far --kind compatible --url {}/v1", upstream.base_url()));
    says("model add mine --at far/mock-small --input 1 --output 1");
    // Nine tokens are read and three written.
    becomes("a new model", 200, Some("0.000012")).await;
    says("model set mine --input 100 --output 0");
    becomes("another price", 200, Some("0.0009")).await;
    says("upstream remove far");
    becomes("an upstream that is gone", 404, None).await;
    says("model set mine --at echo");
    becomes("another place", 200, None).await;
    let id = says("key list").split_whitespace().next().expect("a key").to_owned();
    says(&format!("key revoke {id}"));
    becomes("a key that is revoked", 401, None).await;
    house.close().await;
    drop_database(&desk.place).await;
}
