//! Any server that speaks OpenAI's chat completions.
//!
//! The dialect is wide: vLLM, Ollama, OpenRouter, DeepSeek, Azure and many gateways each bend it a little. What we send
//! is the common core; what we read is taken leniently, field by field, and only what cannot be understood at all is an
//! error. See `tests/fixtures` for what real streams look like.

mod chunk;
mod usage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response, Url};
use salon_core::{Brief, Note, Role};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::chunk::{Chunk, Finish};
use self::usage::Tally;
use crate::upstream::{Call, Fault, Settings, Trouble, Upstream, fault_of, fault_of_status, retry_after};
use crate::{Emitter, Engine, EngineError, Secret, sse};

/// The longest answer, in bytes: far above what any model says, far below what hurts.
const MAX_ANSWER: usize = 8 << 20;
/// The longest body of a response that is no stream.
const MAX_BODY: usize = 16 << 20;
/// The longest body of a refusal that we look into.
const MAX_REFUSAL: usize = 64 << 10;
/// How long the body of a refusal may take: it only makes the sentence better.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long we wait for the usage once the answer is complete.
const USAGE_PATIENCE: Duration = Duration::from_secs(5);
/// How long we wait for the end of the body after `[DONE]`, so that the connection can be used again.
const TAIL_PATIENCE: Duration = Duration::from_millis(20);
/// Thoughts are told in bundles: after this time or this many bytes, whatever comes first.
const REASONING_EVERY: Duration = Duration::from_millis(200);
const REASONING_BYTES: usize = 1024;

/// Where to ask, and how.
#[derive(Clone, Debug)]
pub struct OpenAiSpec {
    /// Everything before `/chat/completions`, such as `http://127.0.0.1:8000/v1`. A query stays in place.
    pub base_url: String,
    pub api_key: Option<Secret>,
    /// Without one, the first model that the server lists.
    pub model: Option<String>,
    pub temperature: Option<f64>,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    pub settings: Settings,
}

impl OpenAiSpec {
    pub fn new(base_url: impl Into<String>) -> OpenAiSpec {
        OpenAiSpec {
            base_url: base_url.into(),
            api_key: None,
            model: None,
            temperature: None,
            max_tokens: None,
            settings: Settings::default(),
        }
    }
}

#[derive(Debug)]
pub struct OpenAi {
    spec: OpenAiSpec,
    chat: Url,
    models: Url,
    authorization: Option<HeaderValue>,
    upstream: Upstream,
    /// The model that was chosen because none was configured.
    chosen: OnceCell<String>,
    quirks: Quirks,
}

/// What this server turned out not to understand. Each is learnt once, from a 400 that names it.
#[derive(Debug, Default)]
struct Quirks {
    no_stream_options: AtomicBool,
    max_completion_tokens: AtomicBool,
    no_temperature: AtomicBool,
}

impl OpenAi {
    /// Fails if the base URL is none, or the key cannot stand in a header.
    pub fn new(spec: OpenAiSpec) -> anyhow::Result<OpenAi> {
        let base = Url::parse(spec.base_url.trim()).context("the base URL of the model cannot be read")?;
        ensure!(matches!(base.scheme(), "http" | "https"), "the base URL of the model is neither http nor https");
        ensure!(
            base.username().is_empty() && base.password().is_none(),
            "the base URL of the model contains a password; the key belongs in its own setting",
        );
        let authorization = match spec.api_key.as_ref().filter(|key| !key.is_empty()) {
            Some(key) => {
                // The error would quote nothing, but it would not help either.
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                    .ok()
                    .context("the key of the model contains characters that no key has")?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(OpenAi {
            chat: below(&base, &["chat", "completions"])?,
            models: below(&base, &["models"])?,
            authorization,
            upstream: Upstream::new(&base, spec.settings.clone())?,
            spec,
            chosen: OnceCell::new(),
            quirks: Quirks::default(),
        })
    }

    /// Asks the server which models it has, in its own order.
    pub async fn list_models(&self) -> Result<Vec<String>, EngineError> {
        let mut call = self.upstream.call();
        loop {
            call.admit()?;
            match self.try_models(&call).await {
                Ok(models) => {
                    call.succeeded();
                    return Ok(models);
                }
                Err(trouble) => match call.failed(&trouble, false) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(trouble.fault.into()),
                },
            }
        }
    }

    async fn try_models(&self, call: &Call<'_>) -> Result<Vec<String>, Trouble> {
        let request = self.upstream.client().get(self.models.clone());
        let mut response = call.send(self.authorized(request)).await?;
        if !response.status().is_success() {
            return Err(Trouble {
                fault: fault_of_status(response.status()),
                retry_after: retry_after(response.headers()),
            });
        }
        let until = call.deadline().min(Instant::now() + self.spec.settings.idle);
        let body = read_body(&mut response, Vec::new(), until, MAX_BODY).await?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| Fault::Garbled)?;
        let list = body["data"].as_array().or(body["models"].as_array()).ok_or(Fault::Garbled)?;
        let name = |model: &Value| model["id"].as_str().or(model["name"].as_str()).map(str::to_owned);
        Ok(list.iter().filter_map(name).collect())
    }

    async fn model(&self) -> Result<String, EngineError> {
        if let Some(model) = self.spec.model.as_ref().filter(|model| !model.is_empty()) {
            return Ok(model.clone());
        }
        let choose = async || {
            let models = self.list_models().await?;
            models.into_iter().next().ok_or_else(|| EngineError::from(Fault::NotFound))
        };
        self.chosen.get_or_try_init(choose).await.cloned()
    }

    async fn converse(&self, brief: &Brief, out: &mut Emitter, tally: &mut Tally) -> Result<(), EngineError> {
        let model = tokio::select! {
            biased;
            () = out.stopped() => return Err(EngineError::Stopped),
            model = self.model() => model?,
        };
        tally.model = Some(model.clone());
        let mut call = self.upstream.call();
        loop {
            call.admit()?;
            let mut reading = Reading::default();
            let tried = self.try_once(&model, brief, &mut call, &mut reading, out, tally).await;
            let trouble = match tried {
                Ok(()) => {
                    call.succeeded();
                    return Ok(());
                }
                Err(Ended::Stopped) => return Err(EngineError::Stopped),
                Err(Ended::Learnt) => {
                    call.succeeded();
                    continue;
                }
                Err(Ended::Trouble(trouble)) => trouble,
            };
            let Some(pause) = call.failed(&trouble, tally.shown) else { return Err(trouble.fault.into()) };
            tracing::debug!(turn.id = %brief.turn, code = trouble.fault.code(), "a model is asked again");
            tokio::select! {
                biased;
                () = out.stopped() => return Err(EngineError::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn try_once(
        &self,
        model: &str,
        brief: &Brief,
        call: &mut Call<'_>,
        reading: &mut Reading,
        out: &mut Emitter,
        tally: &mut Tally,
    ) -> Result<(), Ended> {
        let started = Instant::now();
        tally.begin_try();
        let mut response = tokio::select! {
            biased;
            () = out.stopped() => return Err(Ended::Stopped),
            response = call.send(self.request(model, brief)) => response.inspect_err(|fault| tally.note(*fault))?,
        };
        if !response.status().is_success() {
            tally.note(Fault::Refused);
            return Err(self.refused(&mut response, out).await);
        }
        let listened = self.listen(&mut response, started, call, reading, out, tally).await;
        // Thoughts that were not told yet belong to what was shown, however it ended.
        reading.tell_reasoning(out, tally).await?;
        listened
    }

    /// Reads the answer to its end.
    async fn listen(
        &self,
        response: &mut Response,
        started: Instant,
        call: &Call<'_>,
        reading: &mut Reading,
        out: &mut Emitter,
        tally: &mut Tally,
    ) -> Result<(), Ended> {
        let settings = &self.spec.settings;
        let mut silent_until = started + settings.first_event;
        loop {
            let deadline = silent_until.min(call.deadline());
            let wake = reading.reasoning_due.map_or(deadline, |due| due.min(deadline));
            let read = tokio::select! {
                biased;
                () = out.stopped() => return Err(Ended::Stopped),
                read = response.chunk() => read,
                () = tokio::time::sleep_until(wake) => {
                    if wake < deadline {
                        reading.tell_reasoning(out, tally).await?;
                        continue;
                    }
                    // Complete but for the usage, or an end that never comes: what matters was said.
                    return if reading.finish.is_some() { reading.verdict(tally) } else { Err(Fault::Timeout.into()) };
                }
            };
            let bytes = match read {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    reading.end(out, tally).await?;
                    return reading.verdict(tally);
                }
                Err(_) if reading.finish.is_some() => return reading.verdict(tally),
                Err(error) => return Err(fault_of(&error).into()),
            };
            if reading.shape(&bytes)? == Shape::Whole {
                // The server does not stream. Its whole answer has to come before the silence is too long.
                let until = call.deadline().min(Instant::now() + settings.idle.max(settings.first_event));
                let body = tokio::select! {
                    biased;
                    () = out.stopped() => return Err(Ended::Stopped),
                    body = read_body(response, std::mem::take(&mut reading.head), until, MAX_BODY) => body?,
                };
                reading.whole(&body, out, tally).await?;
                return reading.verdict(tally);
            }
            let progress = reading.stream(&bytes, out, tally).await?;
            match progress {
                Progress::Done => {
                    drop(tokio::time::timeout(TAIL_PATIENCE, response.chunk()).await);
                    return reading.verdict(tally);
                }
                Progress::Event if reading.finish.is_some() => {
                    silent_until = Instant::now() + settings.idle.min(USAGE_PATIENCE);
                }
                Progress::Event => silent_until = Instant::now() + settings.idle,
                // Before the first event a comment says that the question is waiting its turn. Later it says nothing:
                // an upstream that drips comments for ever is as silent as one that drips nothing.
                Progress::Comment if !reading.begun => silent_until = Instant::now() + settings.first_event,
                Progress::Comment | Progress::Nothing => {}
            }
        }
    }

    fn request(&self, model: &str, brief: &Brief) -> RequestBuilder {
        let mut messages = Vec::with_capacity(brief.history.len() + 2);
        if !brief.instructions.is_empty() {
            messages.push(json!({ "role": "system", "content": brief.instructions }));
        }
        for message in &brief.history {
            let role = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            messages.push(json!({ "role": role, "content": message.text }));
        }
        messages.push(json!({ "role": "user", "content": brief.question }));
        let mut body = json!({ "model": model, "messages": messages, "stream": true });
        if !self.quirks.no_stream_options.load(Ordering::Relaxed) {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if let Some(temperature) = self.spec.temperature.filter(|_| !self.quirks.no_temperature.load(Ordering::Relaxed))
        {
            body["temperature"] = json!(temperature);
        }
        if let Some(max_tokens) = self.spec.max_tokens {
            let completion = self.quirks.max_completion_tokens.load(Ordering::Relaxed);
            body[if completion { "max_completion_tokens" } else { "max_tokens" }] = json!(max_tokens);
        }
        let mut request = self
            .upstream
            .client()
            .post(self.chat.clone())
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        // The same for every try, so a server that knows the header answers (and charges) once.
        if let Ok(turn) = HeaderValue::from_str(brief.turn.as_str()) {
            request = request.header("idempotency-key", turn);
        }
        self.authorized(request)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    /// Finds out what a status that is no success means. The body is read for known words and never shown.
    async fn refused(&self, response: &mut Response, out: &Emitter) -> Ended {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let until = Instant::now() + REFUSAL_PATIENCE;
        let body = tokio::select! {
            biased;
            () = out.stopped() => return Ended::Stopped,
            body = read_body(response, Vec::new(), until, MAX_REFUSAL) => body.unwrap_or_default(),
        };
        let words = String::from_utf8_lossy(&body).to_lowercase();
        if matches!(status.as_u16(), 400 | 422) && self.quirks.learn(&words, &self.spec) {
            return Ended::Learnt;
        }
        let fault = match fault_of_status(status) {
            Fault::Limit if words.contains("insufficient_quota") => Fault::Spent,
            Fault::Refused if words.contains("context_length") || words.contains("context length") => Fault::TooLong,
            Fault::Refused if words.contains("content_filter") => Fault::Filtered,
            Fault::Refused if words.contains("model_not_found") => Fault::NotFound,
            fault => fault,
        };
        Ended::Trouble(Trouble { fault, retry_after })
    }
}

#[async_trait]
impl Engine for OpenAi {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let mut tally = Tally::new(brief, self.spec.max_tokens);
        let outcome = self.converse(brief, out, &mut tally).await;
        match tally.usage() {
            Some(usage) => outcome.and(out.usage(usage).await),
            None => outcome,
        }
    }
}

impl Quirks {
    /// Whether the words of a 400 taught us something, so that the next try differs from this one.
    fn learn(&self, words: &str, spec: &OpenAiSpec) -> bool {
        // `swap` makes sure that each lesson is learnt once: the same words a second time are a plain refusal.
        if words.contains("stream_options") {
            return !self.no_stream_options.swap(true, Ordering::Relaxed);
        }
        if words.contains("max_completion_tokens") && spec.max_tokens.is_some() {
            return !self.max_completion_tokens.swap(true, Ordering::Relaxed);
        }
        if words.contains("temperature") && spec.temperature.is_some() {
            return !self.no_temperature.swap(true, Ordering::Relaxed);
        }
        false
    }
}

/// How a try ended, if it did not end well.
enum Ended {
    Stopped,
    /// The server does not understand something that we can do without.
    Learnt,
    Trouble(Trouble),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended::Trouble(fault.into())
    }
}

impl From<EngineError> for Ended {
    /// An emitter has no other errors.
    fn from(_: EngineError) -> Self {
        Ended::Stopped
    }
}

/// What a body is, whatever its content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Only white space so far.
    Unknown,
    Stream,
    /// One JSON object.
    Whole,
}

/// What some bytes of a stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    Comment,
    Event,
    /// `[DONE]`.
    Done,
}

/// One answer while it is being read.
#[derive(Debug, Default)]
struct Reading {
    head: Vec<u8>,
    shape: Option<Shape>,
    parser: sse::Parser,
    /// An event was read.
    begun: bool,
    finish: Option<Finish>,
    said_bytes: usize,
    reasoning: String,
    /// When the thoughts in `reasoning` are to be told.
    reasoning_due: Option<Instant>,
}

impl Reading {
    /// Looks at the first byte that is no white space; until it comes, bytes are kept in `head`.
    fn shape(&mut self, bytes: &[u8]) -> Result<Shape, Fault> {
        if let Some(Shape::Stream) = self.shape {
            return Ok(Shape::Stream);
        }
        self.head.extend_from_slice(bytes);
        let text = self.head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.head).trim_ascii_start();
        let shape = match text.first() {
            None if self.head.len() > MAX_REFUSAL => return Err(Fault::Garbled),
            None => Shape::Unknown,
            Some(b'{') => Shape::Whole,
            // A page of HTML: something between us and the model is talking.
            Some(b'<') => return Err(Fault::Garbled),
            Some(_) => Shape::Stream,
        };
        self.shape = Some(shape);
        Ok(shape)
    }

    /// Reads the next bytes of a stream and tells what they say.
    async fn stream(&mut self, bytes: &[u8], out: &mut Emitter, tally: &mut Tally) -> Result<Progress, Ended> {
        if self.shape != Some(Shape::Stream) {
            return Ok(Progress::Nothing);
        }
        let comments = self.parser.comments();
        let mut frames = Vec::new();
        let head = std::mem::take(&mut self.head);
        let parsed = self.parser.push(if head.is_empty() { bytes } else { &head }, &mut frames);
        let mut progress = match self.parser.comments() > comments {
            true => Progress::Comment,
            false => Progress::Nothing,
        };
        let mut said = String::new();
        let mut read = Ok(());
        for frame in frames {
            match self.frame(&frame, &mut said, out, tally).await {
                Ok(Progress::Done) => {
                    progress = Progress::Done;
                    break;
                }
                Ok(seen) => progress = seen,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            }
        }
        // What came before an error was said and stays.
        self.tell(said, out, tally).await?;
        read?;
        if progress != Progress::Done {
            parsed.map_err(|_| Fault::Garbled)?;
        }
        Ok(progress)
    }

    /// The body has ended: half a frame may still be in the parser.
    async fn end(&mut self, out: &mut Emitter, tally: &mut Tally) -> Result<(), Ended> {
        let Some(frame) = self.parser.finish() else { return Ok(()) };
        let mut said = String::new();
        // If it cannot be read it was cut in two, and that is what the verdict will say.
        let read = self.frame(&frame, &mut said, out, tally).await;
        self.tell(said, out, tally).await?;
        match read {
            Err(Ended::Trouble(Trouble { fault: Fault::Garbled, .. })) => Ok(()),
            read => read.map(drop),
        }
    }

    /// Reads a frame; its text is added to `said`, so that one chunk of bytes becomes one event.
    async fn frame(
        &mut self,
        frame: &sse::Frame,
        said: &mut String,
        out: &mut Emitter,
        tally: &mut Tally,
    ) -> Result<Progress, Ended> {
        let data = frame.data.trim();
        if data.is_empty() {
            return Ok(Progress::Nothing);
        }
        if data == "[DONE]" {
            self.finish.get_or_insert(Finish::Stop);
            return Ok(Progress::Done);
        }
        let mut progress = Progress::Nothing;
        for json in chunk::split(data) {
            if json == "[DONE]" {
                self.finish.get_or_insert(Finish::Stop);
                return Ok(Progress::Done);
            }
            let value = match (serde_json::from_str(json), frame.event.as_deref()) {
                (Ok(value), _) => value,
                (Err(_), None | Some("message")) => return Err(Fault::Garbled.into()),
                (Err(_), Some("error")) => Value::String(json.to_owned()),
                // An event of a kind that we do not know, in a language that we need not know.
                (Err(_), Some(_)) => return Ok(progress),
            };
            let chunk = chunk::read(&value, frame.event.as_deref())?;
            if !chunk.reasoning.is_empty() && !said.is_empty() {
                self.tell(std::mem::take(said), out, tally).await?;
            }
            self.take(chunk, said, out, tally).await?;
            progress = Progress::Event;
        }
        Ok(progress)
    }

    async fn whole(&mut self, body: &[u8], out: &mut Emitter, tally: &mut Tally) -> Result<(), Ended> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let value: Value = serde_json::from_slice(body).map_err(|_| Fault::Garbled)?;
        let chunk = chunk::read(&value, None)?;
        let mut said = String::new();
        self.take(chunk, &mut said, out, tally).await?;
        self.tell(said, out, tally).await?;
        self.finish.get_or_insert(Finish::Stop);
        Ok(())
    }

    async fn take(
        &mut self,
        chunk: Chunk,
        said: &mut String,
        out: &mut Emitter,
        tally: &mut Tally,
    ) -> Result<(), Ended> {
        self.begun = true;
        if let Some(claim) = chunk.usage {
            tally.claim(claim);
        }
        if let Some(finish) = chunk.finish {
            self.finish = Some(finish);
        }
        self.said_bytes += chunk.reasoning.len() + chunk.text.len();
        if self.said_bytes > MAX_ANSWER {
            return Err(Fault::Garbled.into());
        }
        if !chunk.reasoning.is_empty() {
            self.reasoning.push_str(&chunk.reasoning);
            self.reasoning_due.get_or_insert_with(|| Instant::now() + REASONING_EVERY);
            let due = self.reasoning_due.is_some_and(|due| due <= Instant::now());
            if due || self.reasoning.len() >= REASONING_BYTES {
                self.tell_reasoning(out, tally).await?;
            }
        }
        if !chunk.text.is_empty() {
            self.tell_reasoning(out, tally).await?;
            said.push_str(&chunk.text);
        }
        Ok(())
    }

    async fn tell(&mut self, text: String, out: &mut Emitter, tally: &mut Tally) -> Result<(), Ended> {
        if !text.is_empty() {
            tally.said(&text);
            out.text(text).await?;
        }
        Ok(())
    }

    async fn tell_reasoning(&mut self, out: &mut Emitter, tally: &mut Tally) -> Result<(), Ended> {
        self.reasoning_due = None;
        let text = std::mem::take(&mut self.reasoning);
        if !text.is_empty() {
            tally.thought(&text);
            out.note(Note::Reasoning { text }).await?;
        }
        Ok(())
    }

    /// Whether the answer is one, now that nothing more will come.
    fn verdict(&self, tally: &Tally) -> Result<(), Ended> {
        match self.finish {
            None => Err(Fault::Cut.into()),
            Some(Finish::Filtered) => Err(Fault::Filtered.into()),
            Some(Finish::Failed) => Err(Fault::Busy.into()),
            Some(Finish::Stop) if !tally.answered => Err(Fault::Silent.into()),
            Some(Finish::Stop) => Ok(()),
        }
    }
}

/// Reads the rest of a body after `head`, `limit` bytes at most.
async fn read_body(response: &mut Response, head: Vec<u8>, until: Instant, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut body = head;
    let read = async {
        while let Some(bytes) = response.chunk().await.map_err(|error| fault_of(&error))? {
            if body.len() + bytes.len() > limit {
                return Err(Fault::Garbled);
            }
            body.extend_from_slice(&bytes);
        }
        Ok(())
    };
    tokio::time::timeout_at(until, read).await.map_err(|_| Fault::Timeout)??;
    Ok(body)
}

fn below(base: &Url, path: &[&str]) -> anyhow::Result<Url> {
    let mut url = base.clone();
    url.set_fragment(None);
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("the base URL of the model cannot have a path"))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}
