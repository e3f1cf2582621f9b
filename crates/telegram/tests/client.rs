//! The client against a server that answers as Telegram does, and as Telegram should not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use salon_telegram::{
    CallError, Class, Client, ClientConfig, Formatted, Moment, Token, Watch, text,
    types::{
        BotCommand, EditMessageText, InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters, SendMessage,
        SendMessageDraft, SetWebhook, Upload,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

const CANARY: &str = "123456:AAcanaryAAcanaryAAcanaryAAcanary00";

/// What the server saw, oldest first: path, content type, body.
type Seen = Arc<Mutex<Vec<(String, String, Bytes)>>>;

struct Server {
    base_url: String,
    client: Client,
    seen: Seen,
}

/// A server that gives the same answer to everything.
async fn answers<R: IntoResponse + Clone + Send + Sync + 'static>(response: R) -> Server {
    serves(move |_| response.clone().into_response()).await
}

/// A server that answers by path.
async fn serves(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> Server {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        let (answer, log) = (answer.clone(), Arc::clone(&log));
        async move {
            let path = request.uri().to_string();
            let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().expect("text").to_owned());
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.expect("the client sends all of it");
            log.lock().expect("no panic").push((path.clone(), kind.unwrap_or_default(), body));
            answer(&path)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    let base_url = format!("http://{address}");
    Server { client: client(&base_url), base_url, seen }
}

/// A server that sends these bytes to whoever connects, and hangs up.
async fn sends(raw: &'static str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 65536];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(raw.as_bytes()).await;
        }
    });
    client(&format!("http://{address}"))
}

fn client(base_url: &str) -> Client {
    let config =
        ClientConfig { base_url: base_url.into(), token: Token::new(CANARY), timeout: Duration::from_secs(30) };
    Client::new(config).expect("a client")
}

impl Server {
    /// The path and body of the only call.
    fn call(&self) -> (String, Value) {
        let seen = self.seen.lock().expect("no panic");
        let [(path, kind, body)] = &seen[..] else { panic!("{} calls", seen.len()) };
        assert_eq!(kind, "application/json");
        (path.clone(), serde_json::from_slice(body).expect("JSON"))
    }

    /// The body of the only call, which was to this method.
    #[track_caller]
    fn body(&self, method: &str) -> Value {
        let (path, body) = self.call();
        assert_eq!(path, format!("/bot{CANARY}/{method}"));
        body
    }
}

fn ok(result: Value) -> axum::Json<Value> {
    axum::Json(json!({ "ok": true, "result": result }))
}

fn message() -> Value {
    json!({ "message_id": 7, "chat": { "id": 42, "type": "private" }, "date": 1, "text": "…", "news": { "from": "11.0" } })
}

/// Nothing that can be printed of the error has the token or the address in it.
#[track_caller]
fn is_discreet(error: &CallError) {
    let printed = format!("{error} {error:?} {error:#?} {:#}", anyhow::Error::new(error.clone()));
    assert!(!printed.contains("AAcanary") && !printed.contains("127.0.0.1") && !printed.contains("http"), "{printed}");
}

/// A call fails in this way, whatever is called.
#[track_caller]
fn is_unknown<T: std::fmt::Debug>(result: Result<T, CallError>, what: &str) {
    let error = result.expect_err("no result");
    is_discreet(&error);
    assert!(matches!(error, CallError::Unknown { what: said } if said == what), "{error:?} is not {what:?}");
    assert_eq!(error.class(), Class::Unknown);
}

#[tokio::test]
async fn a_message_is_sent_with_entities_and_without_preview_or_parse_mode() {
    let server = answers(ok(message())).await;
    let mut send = SendMessage::new(42, text::markdown("**hi** http://a.b"));
    send.reply_parameters = Some(ReplyParameters::to(5));
    send.reply_markup =
        Some(InlineKeyboardMarkup { inline_keyboard: vec![vec![InlineKeyboardButton::new("Stop", "act:1")]] });
    let sent = server.client.send_message(&send).await.expect("sent");
    assert_eq!((sent.message_id, sent.chat.id), (7, 42));
    assert_eq!(
        server.body("sendMessage"),
        json!({
            "chat_id": 42,
            "text": "hi http://a.b",
            "entities": [{ "type": "bold", "offset": 0, "length": 2 }],
            "reply_parameters": { "message_id": 5, "allow_sending_without_reply": true },
            "reply_markup": { "inline_keyboard": [[{ "text": "Stop", "callback_data": "act:1" }]] },
            "link_preview_options": { "is_disabled": true },
        })
    );
}

#[tokio::test]
async fn edits_and_drafts_carry_the_same_guard() {
    let server = answers(ok(message())).await;
    server.client.edit_message_text(&EditMessageText::new(42, 7, text::plain("x"))).await.expect("edited");
    assert_eq!(
        server.body("editMessageText"),
        json!({ "chat_id": 42, "message_id": 7, "text": "x", "entities": [], "link_preview_options": { "is_disabled": true } })
    );
    let server = answers(ok(json!(true))).await;
    let mut draft = SendMessageDraft::new(42, 9, Formatted::default());
    draft.can_stop = true;
    server.client.send_message_draft(&draft).await.expect("shown");
    assert_eq!(
        server.body("sendMessageDraft"),
        json!({ "chat_id": 42, "draft_id": 9, "text": "", "entities": [], "can_stop": true, "link_preview_options": { "is_disabled": true } })
    );
}

#[tokio::test]
async fn an_edit_of_an_inline_message_answers_true_and_is_as_good() {
    let server = answers(ok(json!(true))).await;
    server.client.edit_message_text(&EditMessageText::new(42, 7, text::plain("x"))).await.expect("edited");
}

#[tokio::test]
async fn the_small_calls_say_what_they_mean() {
    let yes = || ok(json!(true));
    let server = answers(yes()).await;
    server.client.delete_webhook().await.expect("deleted");
    // Nothing that is pending is ever dropped.
    assert_eq!(server.body("deleteWebhook"), json!({}));

    let server = answers(yes()).await;
    server.client.set_webhook(&SetWebhook::new("https://a.b/tg", "s3cret")).await.expect("set");
    assert_eq!(
        server.body("setWebhook"),
        json!({
            "url": "https://a.b/tg",
            "secret_token": "s3cret",
            "allowed_updates": ["message", "edited_message", "callback_query", "my_chat_member", "stopped_message_generation"],
        })
    );

    let server = answers(yes()).await;
    server.client.answer_callback_query("q", Some(&"x".repeat(300)), true).await.expect("answered");
    assert_eq!(
        server.body("answerCallbackQuery"),
        json!({ "callback_query_id": "q", "show_alert": true, "text": "x".repeat(200) })
    );

    let server = answers(yes()).await;
    server.client.send_chat_action(42, "typing").await.expect("shown");
    assert_eq!(server.body("sendChatAction"), json!({ "chat_id": 42, "action": "typing" }));

    let server = answers(yes()).await;
    server.client.delete_message(42, 7).await.expect("deleted");
    assert_eq!(server.body("deleteMessage"), json!({ "chat_id": 42, "message_id": 7 }));

    let server = answers(ok(message())).await;
    server.client.edit_message_reply_markup(42, 7, None).await.expect("edited");
    assert_eq!(server.body("editMessageReplyMarkup"), json!({ "chat_id": 42, "message_id": 7 }));

    let server = answers(yes()).await;
    server.client.set_my_commands(&[BotCommand::new("stop", "멈추기")], Some("ko")).await.expect("set");
    assert_eq!(
        server.body("setMyCommands"),
        json!({ "commands": [{ "command": "stop", "description": "멈추기" }], "language_code": "ko" })
    );
}

#[tokio::test]
async fn questions_are_answered() {
    let server =
        answers(ok(json!({ "id": 123456, "is_bot": true, "first_name": "Parrot", "username": "parrot_bot" }))).await;
    let me = server.client.get_me().await.expect("me");
    assert_eq!((me.id, me.is_bot, me.username.as_deref()), (123456, true, Some("parrot_bot")));

    let server = answers(ok(json!({ "url": "", "has_custom_certificate": false, "pending_update_count": 3 }))).await;
    let webhook = server.client.get_webhook_info().await.expect("info");
    assert_eq!((webhook.url.as_str(), webhook.pending_update_count), ("", 3));

    let server = answers(ok(json!({ "file_id": "f", "file_size": 3, "file_path": "documents/a.txt" }))).await;
    let file = server.client.get_file("f").await.expect("a file");
    assert_eq!(file.file_path.as_deref(), Some("documents/a.txt"));
    assert_eq!(server.body("getFile"), json!({ "file_id": "f" }));
}

#[tokio::test]
async fn updates_keep_their_text_and_a_bad_one_does_not_hide_the_others() {
    const BATCH: &str = r#"{"ok":true,"result":[
        {"update_id":1,"message":{"message_id":1,"text":"a  b\u0000","big":12345678901234567890123}},
        {"update_id":2,"message":"not a message"},
        {"no":"id"},
        "not even an object",
        {"update_id":3,"some_news":{"x":[1,2.50]}}]}"#;
    let server = answers(BATCH).await;
    let updates = server.client.get_updates(Some(1), 100, 25, &["message"]).await.expect("a batch");
    let ids: Vec<i64> = updates.iter().map(|update| update.update_id).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(
        updates[0].json,
        r#"{"update_id":1,"message":{"message_id":1,"text":"a  b\u0000","big":12345678901234567890123}}"#
    );
    assert_eq!(updates[2].json, r#"{"update_id":3,"some_news":{"x":[1,2.50]}}"#);
    assert_eq!(
        server.body("getUpdates"),
        json!({ "limit": 100, "timeout": 25, "allowed_updates": ["message"], "offset": 1 })
    );
}

#[tokio::test]
async fn whoever_looks_on_is_told_of_every_call_before_and_behind_it_whatever_comes_of_it() {
    static TOLD: Mutex<Vec<(&str, Moment)>> = Mutex::new(Vec::new());
    let told = || std::mem::take(&mut *TOLD.lock().expect("no panic"));
    let look: Watch = |method, moment| TOLD.lock().expect("no panic").push((method, moment));
    let around = |method| vec![(method, Moment::Before), (method, Moment::After)];

    let server = answers(ok(message())).await;
    let client = server.client.clone().watched(look);
    client.send_message(&SendMessage::new(42, text::plain("…"))).await.expect("a message");
    assert_eq!(told(), around("sendMessage"));
    client.send_photo(Upload::new(42, "x", vec![1])).await.expect("a message");
    assert_eq!(told(), around("sendPhoto"));

    let nobody = self::client("http://127.0.0.1:1").watched(look);
    nobody.delete_message(42, 7).await.expect_err("nobody is there");
    assert_eq!(told(), around("deleteMessage"));
    nobody.get_updates(None, 1, 0, &[]).await.expect_err("nobody is there");
    assert_eq!(told(), around("getUpdates"));
}

#[tokio::test]
async fn a_negative_offset_which_would_drop_updates_is_never_sent() {
    let server = answers(ok(json!([]))).await;
    assert_eq!(server.client.get_updates(Some(-1), 100, 0, &[]).await.expect("none"), []);
    assert_eq!(server.body("getUpdates"), json!({ "limit": 100, "timeout": 0, "allowed_updates": [] }));
}

#[tokio::test]
async fn a_batch_may_be_larger_than_an_answer() {
    let updates: Vec<Value> = (0..100).map(|id| json!({ "update_id": id, "text": "x".repeat(40_000) })).collect();
    let server = answers(ok(json!(updates))).await;
    assert_eq!(server.client.get_updates(None, 100, 0, &[]).await.expect("a batch").len(), 100);
    let server = answers(ok(json!({ "id": 1, "first_name": "x".repeat(2_000_000) }))).await;
    is_unknown(server.client.get_me().await, "an answer that is too large");
}

#[tokio::test]
async fn files_travel_as_multipart_with_a_harmless_name() {
    let server = answers(ok(message())).await;
    let mut upload = Upload::new(42, "../../etc/\"pass\r\nwd\".txt", "bytes of it");
    upload.caption = Some(text::markdown(&format!("**{}**", "가".repeat(2000))));
    let sent = server.client.send_document(upload).await.expect("sent");
    assert_eq!(sent.message_id, 7);
    let seen = server.seen.lock().expect("no panic");
    let (path, kind, body) = &seen[0];
    let body = String::from_utf8(body.to_vec()).expect("text");
    assert_eq!(*path, format!("/bot{CANARY}/sendDocument"));
    assert!(kind.starts_with("multipart/form-data; boundary="), "{kind}");
    let part = |name: &str| {
        let (_, rest) = body.split_once(&format!("name=\"{name}\"")).unwrap_or_else(|| panic!("no part {name}"));
        let (head, rest) = rest.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), rest.split_once("\r\n--").expect("an end").0.to_owned())
    };
    assert_eq!(part("chat_id").1, "42");
    assert_eq!(part("caption").1, "가".repeat(1024));
    assert_eq!(part("caption_entities").1, r#"[{"type":"bold","offset":0,"length":1024}]"#);
    let (head, bytes) = part("document");
    assert_eq!(bytes, "bytes of it");
    assert!(head.contains("filename=\"passwd.txt\""), "{head}");
}

#[tokio::test]
async fn photos_go_to_their_own_method() {
    let server = answers(ok(message())).await;
    server.client.send_photo(Upload::new(42, "", vec![1, 2, 3])).await.expect("sent");
    let seen = server.seen.lock().expect("no panic");
    assert_eq!(seen[0].0, format!("/bot{CANARY}/sendPhoto"));
    assert!(String::from_utf8_lossy(&seen[0].2).contains("name=\"photo\"; filename=\"file\""));
}

#[tokio::test]
async fn a_download_brings_the_bytes() {
    let server = answers("bytes of it").await;
    assert_eq!(server.client.download("documents/a b.txt").await.expect("bytes"), "bytes of it");
    assert_eq!(server.seen.lock().expect("no panic")[0].0, format!("/file/bot{CANARY}/documents/a%20b.txt"));
}

#[tokio::test]
async fn a_download_leaves_neither_the_folder_nor_the_limit() {
    let server = answers(vec![0u8; 20 * 1024 * 1024 + 1]).await;
    is_unknown(server.client.download("a").await, "an answer that is too large");
    for path in ["../bot/getMe", "a/../../b", "", "/etc/passwd", "a//b"] {
        is_unknown(server.client.download(path).await, "a file path that is none");
    }
    assert_eq!(server.seen.lock().expect("no panic").len(), 1);
    let server = answers((StatusCode::NOT_FOUND, r#"{"ok":false,"error_code":404,"description":"Not Found"}"#)).await;
    assert!(matches!(server.client.download("a").await, Err(CallError::Refused { code: 404, .. })));
}

#[tokio::test]
async fn a_refusal_keeps_what_it_says_but_never_the_token() {
    let said = format!("Bad Request: no such thing as /bot{CANARY}/sendMessage\u{1b}[31m");
    let refusal = json!({ "ok": false, "error_code": 400, "description": said });
    let server = answers((StatusCode::BAD_REQUEST, axum::Json(refusal))).await;
    let error = server.client.get_me().await.expect_err("refused");
    is_discreet(&error);
    assert_eq!(error.class(), Class::BadRequest);
    assert_eq!(error.to_string(), "telegram refused (400): Bad Request: no such thing as /bot…/sendMessage");
}

#[tokio::test]
async fn a_rate_limit_says_how_long() {
    let limit = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 7", "parameters": { "retry_after": 7 } });
    let seven = Class::RateLimited(Duration::from_secs(7));
    let server = answers((StatusCode::TOO_MANY_REQUESTS, axum::Json(limit))).await;
    assert_eq!(server.client.get_me().await.expect_err("limited").class(), seven);
    // Something in front of Telegram may say it in its own way.
    let page = "<html>slow down</html>";
    let server = answers((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], page)).await;
    assert_eq!(server.client.get_me().await.expect_err("limited").class(), seven);
}

#[tokio::test]
async fn a_moved_group_says_where_to() {
    let moved = json!({ "ok": false, "error_code": 400, "description": "Bad Request: group chat was upgraded to a supergroup chat", "parameters": { "migrate_to_chat_id": -1001 } });
    let server = answers((StatusCode::BAD_REQUEST, axum::Json(moved))).await;
    assert_eq!(server.client.get_me().await.expect_err("moved").class(), Class::Migrated(-1001));
}

#[tokio::test]
async fn whatever_is_no_answer_leaves_the_outcome_open() {
    let envelope = r#"{"ok":false,"error_code":500,"description":"Internal Server Error"}"#;
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT] {
        is_unknown(answers((status, envelope)).await.client.get_me().await, "a server error");
        is_unknown(answers((status, "<html>")).await.client.get_me().await, "a server error");
    }
    is_unknown(answers("<html>hello</html>").await.client.get_me().await, "an answer that is not JSON");
    is_unknown(answers("").await.client.get_me().await, "an empty answer");
    is_unknown(answers((StatusCode::NOT_FOUND, "")).await.client.get_me().await, "an empty answer");
    is_unknown(answers("{\"ok\":true,\"result\":{\"id\"").await.client.get_me().await, "an answer that is not JSON");
    is_unknown(answers(r#"{"ok":true}"#).await.client.get_me().await, "an unexpected answer");
    is_unknown(answers(r#"{"ok":false}"#).await.client.get_me().await, "an unexpected answer");
    is_unknown(answers(ok(json!({ "id": "text" }))).await.client.get_me().await, "an unexpected result");
    is_unknown(answers((StatusCode::ACCEPTED, "[]")).await.client.get_me().await, "an answer that is not JSON");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = serves(|path| match path {
        "/elsewhere" => ok(json!({ "id": 1 })).into_response(),
        _ => Redirect::temporary("/elsewhere").into_response(),
    })
    .await;
    is_unknown(server.client.get_me().await, "an empty answer");
    assert_eq!(server.seen.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_it() {
    let server = serves(|_| {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        let for_ever = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        Response::new(Body::from_stream(for_ever))
    })
    .await;
    is_unknown(server.client.get_me().await, "an answer that is too large");
}

#[tokio::test]
async fn a_cut_answer_leaves_the_outcome_open() {
    is_unknown(
        sends("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"ok\":true").await.get_me().await,
        "a cut answer",
    );
    is_unknown(
        sends("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"ok\"").await.get_me().await,
        "a cut answer",
    );
    is_unknown(sends("").await.get_me().await, "a broken connection");
    is_unknown(sends("SSH-2.0-parrot\r\n").await.get_me().await, "a broken connection");
}

#[tokio::test]
async fn what_was_never_sent_is_known_not_to_be_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = client(&format!("http://{address}")).get_me().await.expect_err("refused");
    is_discreet(&error);
    assert_eq!((error.clone(), error.class()), (CallError::NotSent, Class::NotSent));
}

#[tokio::test]
async fn a_call_ends_with_its_time_and_a_long_poll_has_more_of_it() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let app = Router::new().fallback(move |request: Request| {
        let wait = Arc::clone(&wait);
        async move {
            if !request.uri().path().ends_with("getUpdates") {
                std::future::pending::<()>().await;
            }
            wait.notified().await;
            ok(json!([]))
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let timeout = Duration::from_millis(50);
    let client = Client::new(ClientConfig { base_url, token: Token::new(CANARY), timeout }).expect("a client");
    let poll = tokio::spawn({
        let client = client.clone();
        async move { client.get_updates(None, 100, 1, &[]).await }
    });
    // When this has timed out, the poll is older than the time of a call.
    is_unknown(client.get_me().await, "a time-out");
    go.notify_one();
    assert_eq!(poll.await.expect("no panic").expect("the poll outlives it"), []);
}

#[tokio::test]
async fn the_client_prints_no_secret_and_takes_no_odd_address() {
    let printed = format!("{:?}", client("http://127.0.0.1:1"));
    assert!(printed.contains("123456:…") && !printed.contains("AAcanary"), "{printed}");
    let config =
        ClientConfig { base_url: "http://x".into(), token: Token::new(CANARY), timeout: Duration::from_secs(1) };
    assert!(!format!("{config:?}").contains("AAcanary"));
    for base_url in ["", "api.telegram.org", "ftp://x", "http://x/?a=b", "unix:/x"] {
        let error = Client::new(ClientConfig { base_url: base_url.into(), ..config.clone() }).expect_err(base_url);
        assert!(!format!("{error:?}").contains("AAcanary"));
    }
    Client::new(ClientConfig { base_url: "https://api.telegram.org".into(), ..config }).expect("TLS works");
}

#[tokio::test]
async fn a_base_address_may_have_a_path_and_a_token_is_one_segment_of_it() {
    let server = answers(ok(json!({ "id": 1 }))).await;
    let base_url = format!("{}/proxy/", server.base_url);
    let token = Token::new("a/../b?c#d");
    let odd = Client::new(ClientConfig { base_url, token, timeout: Duration::from_secs(30) }).expect("a client");
    odd.get_me().await.expect("me");
    assert_eq!(server.seen.lock().expect("no panic")[0].0, "/proxy/bota%2F..%2Fb%3Fc%23d/getMe");
}
