//! A provider: what it says of itself, and what is asked of it. Every address is judged as one that a user gave: it is
//! public and https, or an administrator has named its host.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use salon_core::Time;
use salon_engine::Secret;
use salon_engine::guard::{Rules, judge};
use salon_engine::outbound::{Ask, Deadlines, Outbound, Reach};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keys::{Key, Token, parse};
use super::{Said, judge as judge_claims};

/// What a provider says of itself is believed so long, and its keys.
const BELIEVE: Duration = Duration::from_secs(60 * 60);
/// A key that we do not know makes us look again, but not more often than this.
const PAUSE: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(10);
const LONGEST: usize = 256 * 1024;

/// A provider as it is configured.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    /// What stands on the button.
    pub label: String,
    pub issuer: String,
    pub client_id: String,
    /// Without one we are a public client, and the verifier is all that proves us.
    pub client_secret: Option<Secret>,
    /// The organisation of those who come in for the first time, by id or name.
    pub org: String,
    /// The claim that says somebody's role, if the provider decides that.
    pub roles: Option<String>,
    /// Whether its people come in by themselves; otherwise an account has to have taken the identity before.
    pub create: bool,
    /// Hosts that are allowed beside those of the public internet.
    pub rules: Arc<Rules>,
}

/// What a provider says of itself.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    pub authorization: Url,
    token: Url,
    keys: Url,
    /// Whether the secret goes into the form, because the provider wants it nowhere else.
    secret_in_form: bool,
}

#[derive(Deserialize)]
struct Written {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// A provider, and what is remembered of it.
pub(super) struct Known {
    pub settings: Provider,
    outbound: Outbound,
    discovery: Mutex<Option<(Arc<Discovery>, Time)>>,
    keys: Mutex<(Arc<Vec<Key>>, Time)>,
}

impl Known {
    pub(super) fn new(settings: Provider, outbound: Outbound) -> Known {
        let never = (Arc::default(), Time(i64::MIN / 2));
        Known { settings, outbound, discovery: Mutex::default(), keys: Mutex::new(never) }
    }

    pub(super) async fn discovery(&self, now: Time) -> Result<Arc<Discovery>> {
        let mut known = self.discovery.lock().await;
        if let Some((discovery, at)) = &*known
            && now.since(*at) < BELIEVE
        {
            return Ok(discovery.clone());
        }
        let issuer = self.settings.issuer.trim_end_matches('/');
        let (status, bytes) = self.get(&format!("{issuer}/.well-known/openid-configuration")).await?;
        ensure!(status == StatusCode::OK, "the provider answered {status} for its description");
        let written: Written = serde_json::from_slice(&bytes).ok().context("the provider does not describe itself")?;
        ensure!(written.issuer == self.settings.issuer, "the provider calls itself {:?}", written.issuer);
        let methods = written.token_endpoint_auth_methods_supported.unwrap_or_default();
        let has = |name: &str| methods.iter().any(|method| method == name);
        let judged = |text: &str| Ok::<Url, anyhow::Error>(judge(text, &self.settings.rules)?.url);
        let discovery = Arc::new(Discovery {
            authorization: judged(&written.authorization_endpoint)?,
            token: judged(&written.token_endpoint)?,
            keys: judged(&written.jwks_uri)?,
            secret_in_form: has("client_secret_post") && !has("client_secret_basic"),
        });
        *known = Some((discovery.clone(), now));
        Ok(discovery)
    }

    /// Gives a code in and answers who it stands for.
    pub(super) async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect: &str,
        nonce: &str,
        now: Time,
    ) -> Result<Said> {
        let discovery = self.discovery(now).await?;
        let id = &self.settings.client_id;
        let mut form = url_form(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ]);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        match &self.settings.client_secret {
            Some(secret) if !discovery.secret_in_form => {
                // Both are encoded as in a form first (RFC 6749, 2.3.1).
                let pair = zeroize::Zeroizing::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
                let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair.as_bytes())))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            secret => {
                form.push_str(&format!("&client_id={}", encoded(id)));
                if let Some(secret) = secret {
                    form.push_str(&format!("&client_secret={}", encoded(secret.expose())));
                }
            }
        }
        let (status, bytes) = self.send(&discovery.token, Method::POST, headers, form.into()).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status != StatusCode::OK {
            let why = answer["error"].as_str().unwrap_or("no reason");
            let why: String = why.chars().filter(char::is_ascii_graphic).take(64).collect();
            anyhow::bail!("the provider answered {status} to the code: {why}");
        }
        let text = answer["id_token"].as_str().context("the provider gave no id_token")?;
        let token = Token::parse(text)?;
        let keys = self.keys(&discovery, &token, now).await?;
        let claims = token.prove(&keys)?;
        judge_claims(&claims, &self.settings, nonce, now)?;
        Said::of(&claims, self.settings.roles.as_deref()).context("the token does not say whom it is about")
    }

    /// The provider's keys, read again if it is time, or if there is none for this token.
    async fn keys(&self, discovery: &Discovery, token: &Token<'_>, now: Time) -> Result<Arc<Vec<Key>>> {
        let mut known = self.keys.lock().await;
        let age = now.since(known.1);
        if age < BELIEVE && (token.has_key(&known.0) || age < PAUSE) {
            return Ok(known.0.clone());
        }
        let (status, bytes) = self.get(discovery.keys.as_str()).await?;
        ensure!(status == StatusCode::OK, "the provider answered {status} for its keys");
        *known = (Arc::new(parse(&bytes)?), now);
        Ok(known.0.clone())
    }

    async fn get(&self, text: &str) -> Result<(StatusCode, Bytes)> {
        let url = judge(text, &self.settings.rules)?.url;
        self.send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await
    }

    async fn send(
        &self,
        url: &Url,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let reach = Reach::Guarded(self.settings.rules.clone());
        let line = self.outbound.line(url, Some(&format!("oidc {}", self.settings.name)), &reach);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let deadlines =
            Deadlines { connect: Duration::from_secs(5), head: TOTAL, idle: TOTAL, total: Instant::now() + TOTAL };
        let ask = Ask { method, uri: url.as_str().parse()?, headers, body };
        let failed = |fault: salon_engine::upstream::Fault| anyhow::anyhow!("{}", fault.code());
        let response = line.send(ask, &deadlines).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        Ok((head.status, body.collect(LONGEST).await.map_err(failed)?))
    }
}

fn url_form(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

/// A value of a form.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
