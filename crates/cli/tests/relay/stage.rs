//! What the tests of the relay share: a house with upstreams, people and keys.

use salon::Actor;
use salon::access::issue::{Maker, NewKey, make_key};
use salon::catalog::{Environment, Prices, Sources, Spec};
use salon::people::{DEFAULT_ORG, NewUser, add_user};
use salon_cli::config::Config;
use salon_cli::house::House;
use salon_core::people::Role;
use salon_core::{OrgId, Scopes, Time, UserId};
use salon_engine::Secret;
use salon_mock::upstream::{Upstream, UpstreamConfig};
use salon_store::Place;
use salon_store::ledger::{Usage, UsageFilter};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house;

/// What the upstream has to be shown. It must never be seen anywhere else.
pub const PROVIDER_KEY: &str = "sk-canary-provider-key-0123456789";

/// Every kind of upstream, all of them the scripted one, and models by prices that are easy to multiply.
fn spec(base: &str) -> Spec {
    let text = format!(
        r#"
        [upstreams.openai]
        kind = "openai"
        base_url = "{base}/v1"
        key_env = "OPENAI_API_KEY"

        [upstreams.anthropic]
        kind = "anthropic"
        base_url = "{base}"
        key_env = "ANTHROPIC_API_KEY"

        [upstreams.gemini]
        kind = "gemini"
        base_url = "{base}"
        key_env = "GEMINI_API_KEY"

        [upstreams.midm]
        kind = "midm"
        base_url = "{base}"

        [upstreams.house]
        kind = "echo"

        [models.gpt]
        upstream = "openai"
        model = "mock-gpt"
        rates = {{ input = "1", output = "2" }}
        output = 1000

        [models.claude]
        upstream = "anthropic"
        model = "mock-claude"
        rates = {{ input = "3", output = "15" }}
        output = 1000

        [models.gemini]
        upstream = "gemini"
        model = "mock-gemini"
        rates = {{ input = "1", output = "4" }}
        output = 1000

        [models.midm]
        upstream = "midm"
        model = "midm"
        rates = {{ input = "0", output = "0" }}

        [models.echo]
        upstream = "house"

        [models.vectors]
        upstream = "openai"
        model = "mock-embedding"
        rates = {{ input = "1", output = "0" }}

        [models.sroberta]
        upstream = "midm"
        model = "ko-sroberta"
        rates = {{ input = "1", output = "0" }}
        "#
    );
    toml::from_str(&text).unwrap()
}

pub struct Stage {
    pub house: House,
    pub upstream: Upstream,
    pub http: reqwest::Client,
    pub base: String,
    pub user: UserId,
    /// A key of ours that may do everything.
    pub key: String,
    config: Config,
    folder: TempDir,
}

impl Stage {
    pub async fn open() -> Stage {
        Stage::with(|_| {}).await
    }

    /// A stage on a SQLite file, with changes to the configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Stage {
        rustls::crypto::ring::default_provider().install_default().ok();
        let upstream = Upstream::start(UpstreamConfig::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("data"));
        let mut config = house::config(folder.path(), place, "http://127.0.0.1:9");
        config.sources = Sources {
            file: spec(&upstream.base_url()),
            environment: Environment::new(|name| name.ends_with("_API_KEY").then(|| Secret::new(PROVIDER_KEY))),
            prices: Prices::shipped(),
            ..Sources::default()
        };
        change(&mut config);
        let house = House::open(&config).await.unwrap();
        let base = format!("http://{}", house.address.unwrap());
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let salon = house.salon.clone();
        let new = NewUser {
            org: OrgId::new(DEFAULT_ORG),
            name: "Alice".to_owned(),
            email: None,
            role: Role::Admin,
            telegram: None,
        };
        let user = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.unwrap().id;
        let mut stage = Stage { house, upstream, http, base, user, key: String::new(), config, folder };
        stage.key = stage.key_of(Scopes::default()).await;
        stage
    }

    /// The same house, closed and opened again: what was only in its memory is gone.
    pub async fn again(self) -> Stage {
        let Stage { house, upstream, http, user, key, config, folder, .. } = self;
        house.close().await;
        let house = House::open(&config).await.unwrap();
        let base = format!("http://{}", house.address.unwrap());
        Stage { house, upstream, http, base, user, key, config, folder }
    }

    /// A new key of Alice's.
    pub async fn key_of(&self, scopes: Scopes) -> String {
        self.key_for(&self.user, scopes).await
    }

    /// A new key of somebody's.
    pub async fn key_for(&self, user: &UserId, scopes: Scopes) -> String {
        let salon = &self.house.salon;
        let name = "a test's key".to_owned();
        let new = NewKey { user: user.clone(), name, role: None, scopes, expires_at: None, limits: Vec::new() };
        let issued = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.unwrap();
        issued.secret.expose().to_owned()
    }

    /// The key of somebody new, who has never asked anything.
    pub async fn key_of_somebody(&self, org: &OrgId, name: &str) -> String {
        let salon = &self.house.salon;
        let new = NewUser { org: org.clone(), name: name.to_owned(), email: None, role: Role::User, telegram: None };
        let user = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.unwrap().id;
        let name = "a test's key".to_owned();
        let new = NewKey { user, name, role: None, scopes: Scopes::default(), expires_at: None, limits: Vec::new() };
        make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new)
            .await
            .unwrap()
            .secret
            .expose()
            .to_owned()
    }

    /// Alice, as her key lets her in.
    pub async fn caller(&self) -> std::sync::Arc<salon::Caller> {
        let mut headers = axum::http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.key).parse().unwrap());
        let credential = salon::Credential::read(&headers, None).unwrap();
        self.house.relay.admit(credential, None, false, "/v1/models").await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.post_as(&self.key, path, body, &[]).await
    }

    pub async fn post_as(
        &self,
        key: &str,
        path: &str,
        body: &Value,
        headers: &[(&'static str, &str)],
    ) -> reqwest::Response {
        let mut request = self.http.post(format!("{}{path}", self.base)).bearer_auth(key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.json(body).send().await.unwrap()
    }

    /// What the ledger says was used, once everything that was told to it is written.
    pub async fn used(&self) -> Usage {
        self.house.relay.book.flush().await.unwrap();
        let filter = UsageFilter::of(OrgId::new(DEFAULT_ORG), Time(0), Time(i64::MAX));
        self.house.salon.store.read().await.unwrap().usage(&filter).await.unwrap()
    }
}

/// A question in the words of each door, with the path of the door.
pub fn question(door: &str, model: &str, text: &str, stream: bool) -> (String, Value) {
    let messages = json!([{ "role": "user", "content": text }]);
    match door {
        "chat" => {
            ("/v1/chat/completions".to_owned(), json!({ "model": model, "messages": messages, "stream": stream }))
        }
        "completions" => ("/v1/completions".to_owned(), json!({ "model": model, "prompt": text, "stream": stream })),
        "responses" => ("/v1/responses".to_owned(), json!({ "model": model, "input": text, "stream": stream })),
        "messages" => (
            "/v1/messages".to_owned(),
            json!({ "model": model, "max_tokens": 500, "messages": messages, "stream": stream }),
        ),
        "generate" => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let contents = json!([{ "role": "user", "parts": [{ "text": text }] }]);
            (format!("/v1beta/models/{model}:{method}"), json!({ "contents": contents }))
        }
        other => panic!("there is no door {other}"),
    }
}
