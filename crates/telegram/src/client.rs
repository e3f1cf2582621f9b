//! The Bot API client: one call, one answer, no retries. Whoever calls decides what to do with a failure,
//! because only they know whether the call may be made twice.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Response, StatusCode, Url,
    multipart::{Form, Part},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use crate::{
    text,
    types::{
        BotCommand, EditMessageText, File, InlineKeyboardMarkup, Message, SendMessage, SendMessageDraft, SetWebhook,
        Upload, User, WebhookInfo,
    },
};

mod error;
mod token;

pub use error::{CallError, Class};
pub use token::Token;

/// Bytes of an ordinary answer.
const ANSWER_BYTES: usize = 1 << 20;
/// Bytes of a batch of updates: a hundred long messages with their entities fit many times.
const UPDATES_BYTES: usize = 16 << 20;
/// Bytes of a file; what the official server lets bots download.
pub const DOWNLOAD_BYTES: usize = 20 << 20;
/// How much longer than its own time-out a long poll may take.
const POLL_GRACE: Duration = Duration::from_secs(10);
/// UTF-16 units of a caption.
pub const CAPTION_UNITS: usize = 1024;
/// Characters of an answer to a button.
const TOAST_CHARS: usize = 200;

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Without the `/bot…`, such as `https://api.telegram.org`.
    pub base_url: String,
    pub token: Token,
    /// Of a whole call, connection and body included.
    pub timeout: Duration,
}

/// Speaks to one server with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    watch: Option<Watch>,
}

/// Is told the method of every call, right before it is made and right after it was answered or failed.
pub type Watch = fn(method: &'static str, moment: Moment);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    token: Token,
    timeout: Duration,
}

/// An update as it arrived. It is stored before anything looks inside, so it stays text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawUpdate {
    pub update_id: i64,
    pub json: String,
}

impl Client {
    /// Fails if the address is none, or if there is no way to make TLS connections.
    pub fn new(config: ClientConfig) -> anyhow::Result<Self> {
        let base = Url::parse(config.base_url.trim()).map_err(|e| anyhow::anyhow!("telegram's base address: {e}"))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && base.has_host() && base.query().is_none(),
            "telegram's base address must be http or https with a host and without a query"
        );
        let http = http_client(&base, config.timeout)?;
        Ok(Client { inner: Arc::new(Inner { http, base, token: config.token, timeout: config.timeout }), watch: None })
    }

    /// The same client with somebody who looks on, whatever it calls.
    pub fn watched(self, watch: Watch) -> Client {
        Client { watch: Some(watch), ..self }
    }

    pub fn token(&self) -> &Token {
        &self.inner.token
    }

    pub async fn get_me(&self) -> Result<User, CallError> {
        self.call("getMe", &json!({})).await
    }

    /// Waits up to `timeout_s` seconds for updates from `offset` on, oldest first. The server forgets those
    /// below the offset. A negative offset would make it forget more than that, and is never sent.
    pub async fn get_updates(
        &self,
        offset: Option<i64>,
        limit: u32,
        timeout_s: u32,
        allowed: &[&str],
    ) -> Result<Vec<RawUpdate>, CallError> {
        let mut body = json!({ "limit": limit, "timeout": timeout_s, "allowed_updates": allowed });
        if let Some(offset) = offset.filter(|&offset| offset >= 0) {
            body["offset"] = offset.into();
        }
        let timeout = Duration::from_secs(timeout_s.into()) + POLL_GRACE;
        let request = self.inner.http.post(self.url(&["getUpdates"])).json(&body).timeout(timeout);
        let batch: Vec<Box<RawValue>> = self.answer("getUpdates", request, UPDATES_BYTES).await?;
        Ok(batch.iter().filter_map(|raw| raw_update(raw)).collect())
    }

    pub async fn set_webhook(&self, webhook: &SetWebhook) -> Result<(), CallError> {
        self.done("setWebhook", webhook).await
    }

    /// Goes back to polling. What is pending stays pending.
    pub async fn delete_webhook(&self) -> Result<(), CallError> {
        self.done("deleteWebhook", &json!({})).await
    }

    pub async fn get_webhook_info(&self) -> Result<WebhookInfo, CallError> {
        self.call("getWebhookInfo", &json!({})).await
    }

    /// Not idempotent: after `Unknown`, there may be a message whose id nobody knows.
    pub async fn send_message(&self, message: &SendMessage) -> Result<Message, CallError> {
        self.call("sendMessage", message).await
    }

    pub async fn send_message_draft(&self, draft: &SendMessageDraft) -> Result<(), CallError> {
        self.done("sendMessageDraft", draft).await
    }

    /// May be repeated freely: the second time is refused as [`Class::NotModified`].
    pub async fn edit_message_text(&self, edit: &EditMessageText) -> Result<(), CallError> {
        self.done("editMessageText", edit).await
    }

    /// Replaces the buttons below a message; `None` removes them.
    pub async fn edit_message_reply_markup(
        &self,
        chat_id: i64,
        message_id: i64,
        markup: Option<&InlineKeyboardMarkup>,
    ) -> Result<(), CallError> {
        let mut body = json!({ "chat_id": chat_id, "message_id": message_id });
        if let Some(markup) = markup {
            body["reply_markup"] = json!(markup);
        }
        self.done("editMessageReplyMarkup", &body).await
    }

    pub async fn delete_message(&self, chat_id: i64, message_id: i64) -> Result<(), CallError> {
        self.done("deleteMessage", &json!({ "chat_id": chat_id, "message_id": message_id })).await
    }

    /// Ends the spinner on a button, with a few words or as an alert that must be closed.
    pub async fn answer_callback_query(&self, id: &str, text: Option<&str>, show_alert: bool) -> Result<(), CallError> {
        let mut body = json!({ "callback_query_id": id, "show_alert": show_alert });
        if let Some(text) = text {
            body["text"] = text::plain(text).text.chars().take(TOAST_CHARS).collect::<String>().into();
        }
        self.done("answerCallbackQuery", &body).await
    }

    /// Shows "typing" and the like for five seconds.
    pub async fn send_chat_action(&self, chat_id: i64, action: &str) -> Result<(), CallError> {
        self.done("sendChatAction", &json!({ "chat_id": chat_id, "action": action })).await
    }

    /// Not idempotent.
    pub async fn send_document(&self, upload: Upload) -> Result<Message, CallError> {
        self.upload("sendDocument", "document", upload).await
    }

    /// Not idempotent.
    pub async fn send_photo(&self, upload: Upload) -> Result<Message, CallError> {
        self.upload("sendPhoto", "photo", upload).await
    }

    pub async fn get_file(&self, file_id: &str) -> Result<File, CallError> {
        self.call("getFile", &json!({ "file_id": file_id })).await
    }

    /// The bytes of a file that [`get_file`](Self::get_file) told the path of, at most [`DOWNLOAD_BYTES`].
    pub async fn download(&self, file_path: &str) -> Result<Bytes, CallError> {
        let segments: Vec<&str> = file_path.split('/').collect();
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(CallError::Unknown { what: "a file path that is none" });
        }
        let mut url = self.inner.base.clone();
        push_segments(&mut url, ["file", &format!("bot{}", self.inner.token.expose())]);
        push_segments(&mut url, segments);
        let response = self.inner.http.get(url).timeout(self.inner.timeout).send().await.map_err(failed)?;
        if response.status() == StatusCode::OK {
            return read(response, DOWNLOAD_BYTES).await;
        }
        // A refusal, or nothing that can be understood: a file in place of an envelope is neither.
        self.open::<serde::de::IgnoredAny>(response, ANSWER_BYTES).await?;
        Err(CallError::Unknown { what: "no file" })
    }

    /// Replaces the menu of commands, for everyone or for people whose Telegram speaks the language.
    pub async fn set_my_commands(&self, commands: &[BotCommand], language_code: Option<&str>) -> Result<(), CallError> {
        let mut body = json!({ "commands": commands });
        if let Some(language_code) = language_code {
            body["language_code"] = language_code.into();
        }
        self.done("setMyCommands", &body).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &'static str, body: &impl Serialize) -> Result<T, CallError> {
        let request = self.inner.http.post(self.url(&[method])).json(body).timeout(self.inner.timeout);
        self.answer(method, request, ANSWER_BYTES).await
    }

    /// A call whose result says nothing beyond that it was done.
    async fn done(&self, method: &'static str, body: &impl Serialize) -> Result<(), CallError> {
        self.call::<serde::de::IgnoredAny>(method, body).await.map(drop)
    }

    async fn upload(&self, method: &'static str, field: &'static str, upload: Upload) -> Result<Message, CallError> {
        let mut form = Form::new().text("chat_id", upload.chat_id.to_string());
        if let Some(thread) = upload.message_thread_id {
            form = form.text("message_thread_id", thread.to_string());
        }
        if let Some(caption) =
            upload.caption.and_then(|caption| text::pages(&caption, CAPTION_UNITS).into_iter().next())
        {
            form = form.text("caption_entities", json!(caption.entities).to_string()).text("caption", caption.text);
        }
        if let Some(markup) = &upload.reply_markup {
            form = form.text("reply_markup", json!(markup).to_string());
        }
        let part = Part::stream(upload.bytes).file_name(file_name(&upload.file_name));
        let request =
            self.inner.http.post(self.url(&[method])).multipart(form.part(field, part)).timeout(self.inner.timeout);
        self.answer(method, request, ANSWER_BYTES).await
    }

    fn url(&self, method: &[&str]) -> Url {
        let mut url = self.inner.base.clone();
        push_segments(&mut url, [format!("bot{}", self.inner.token.expose()).as_str()]);
        push_segments(&mut url, method.iter().copied());
        url
    }

    /// Makes a call. Every method of the Bot API goes through here, so nobody can be forgotten who looks on.
    async fn answer<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: reqwest::RequestBuilder,
        limit: usize,
    ) -> Result<T, CallError> {
        self.tell(method, Moment::Before);
        let answered = match request.send().await {
            Ok(response) => self.open(response, limit).await,
            Err(error) => Err(failed(error)),
        };
        self.tell(method, Moment::After);
        answered
    }

    fn tell(&self, method: &'static str, moment: Moment) {
        if let Some(watch) = self.watch {
            watch(method, moment);
        }
    }

    /// Opens the envelope. Only a well-formed "no" counts as a refusal: whatever else is not a result leaves
    /// open whether the call was applied.
    async fn open<T: DeserializeOwned>(&self, response: Response, limit: usize) -> Result<T, CallError> {
        let status = response.status();
        let waits = retry_after_header(&response);
        let body = read(response, limit).await;
        if status.is_server_error() {
            return Err(CallError::Unknown { what: "a server error" });
        }
        // Whoever answers 429 has not looked at the call, be it Telegram or something in front of it.
        let throttled = || CallError::Refused {
            code: 429,
            description: "Too Many Requests".into(),
            retry_after: waits,
            migrate_to_chat_id: None,
        };
        let is_throttle = status == StatusCode::TOO_MANY_REQUESTS;
        let body = match body {
            Ok(body) => body,
            Err(_) if is_throttle => return Err(throttled()),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Envelope<'_>>(&body) {
            Ok(Envelope { ok: true, result: Some(result), .. }) if status.is_success() => {
                serde_json::from_str(result.get()).map_err(|_| CallError::Unknown { what: "an unexpected result" })
            }
            Ok(Envelope { ok: false, error_code: Some(code @ 400..=499), description, parameters, .. }) => {
                let parameters = parameters.unwrap_or_default();
                let description = text::plain(&description.unwrap_or_default()).text;
                Err(CallError::Refused {
                    code,
                    description: self.inner.token.scrub(&description).chars().take(300).collect(),
                    retry_after: parameters.retry_after.map(Duration::from_secs).or(waits),
                    migrate_to_chat_id: parameters.migrate_to_chat_id,
                })
            }
            _ if is_throttle => Err(throttled()),
            Ok(_) => Err(CallError::Unknown { what: "an unexpected answer" }),
            Err(_) if body.is_empty() => Err(CallError::Unknown { what: "an empty answer" }),
            Err(_) => Err(CallError::Unknown { what: "an answer that is not JSON" }),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.inner.base.host_str()).field("token", &self.inner.token).finish()
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    ok: bool,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error_code: Option<i64>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// The one place that makes an HTTP client: it follows no redirect, which could carry the token away, and
/// asks no proxy of the environment.
fn http_client(base: &Url, timeout: Duration) -> anyhow::Result<reqwest::Client> {
    // Fails only if someone else installed a provider first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent("salon")
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        // The official server closes idle connections after 50 seconds. Be first.
        .pool_idle_timeout(Duration::from_secs(30));
    if base.scheme() == "http" {
        // Nothing to verify, so a machine without certificates will do.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| anyhow::Error::new(e.without_url()).context("cannot make an HTTP client"))
}

/// Puts a failed request into its class. The error itself is dropped: its texts have the address in them.
fn failed(error: reqwest::Error) -> CallError {
    if error.is_connect() || error.is_builder() {
        CallError::NotSent
    } else if error.is_timeout() {
        CallError::Unknown { what: "a time-out" }
    } else if error.is_redirect() {
        CallError::Unknown { what: "a redirect" }
    } else {
        CallError::Unknown { what: "a broken connection" }
    }
}

/// Reads a body that must not be larger than `limit` bytes, whatever it claims.
async fn read(mut response: Response, limit: usize) -> Result<Bytes, CallError> {
    const TOO_LARGE: CallError = CallError::Unknown { what: "an answer that is too large" };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(TOO_LARGE);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed_midway)? {
        if body.len() + chunk.len() > limit {
            return Err(TOO_LARGE);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Once there is an answer, the call has been sent, whatever happens to the rest of it.
fn failed_midway(error: reqwest::Error) -> CallError {
    let what = if error.is_timeout() { "a time-out" } else { "a cut answer" };
    CallError::Unknown { what }
}

fn retry_after_header(response: &Response) -> Option<Duration> {
    response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// One update of a batch. One that has no readable id can be neither stored nor acknowledged by itself; the
/// next one that has an id acknowledges both.
fn raw_update(raw: &RawValue) -> Option<RawUpdate> {
    #[derive(Deserialize)]
    struct Id {
        update_id: i64,
    }
    match serde_json::from_str::<Id>(raw.get()) {
        Ok(Id { update_id }) => Some(RawUpdate { update_id, json: raw.get().to_owned() }),
        Err(_) => {
            tracing::warn!("telegram sent an update without an id");
            None
        }
    }
}

/// Appends to the path; whatever is not a plain segment is escaped.
fn push_segments<'a>(url: &mut Url, segments: impl IntoIterator<Item = &'a str>) {
    url.path_segments_mut().expect("http addresses have paths").pop_if_empty().extend(segments);
}

/// A file name that is only a name, for it stands in a header.
fn file_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control() && *c != '"').take(120).collect();
    if name.trim().is_empty() { "file".to_owned() } else { name }
}
