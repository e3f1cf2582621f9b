//! What travels to and from Telegram: the few fields Salon uses. Unknown fields are ignored, and whatever
//! may be absent is an `Option`, so that a newer server never makes an update unreadable.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use crate::Formatted;

/// The kinds of update that Salon asks for.
pub const ALLOWED_UPDATES: &[&str] =
    &["message", "edited_message", "callback_query", "my_chat_member", "stopped_message_generation"];

/// Something that happened, as Telegram tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub update_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_query: Option<CallbackQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub my_chat_member: Option<ChatMemberUpdated>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_message_generation: Option<StoppedGeneration>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub message_id: i64,
    /// Of a topic only if `is_topic_message`; otherwise the thread of replies that an ordinary group counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_topic_message: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<User>,
    /// The channel or group that speaks, when no person does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_chat: Option<Chat>,
    pub chat: Chat,
    /// Seconds since 1970.
    #[serde(default)]
    pub date: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caption_entities: Vec<Entity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
    /// The same picture in several sizes, smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub photo: Vec<PhotoSize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<Voice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_message: Option<Box<Message>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate_to_chat_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate_from_chat_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_markup: Option<InlineKeyboardMarkup>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: i64,
    #[serde(default)]
    pub is_bot: bool,
    #[serde(default)]
    pub first_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_code: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`; empty if the server did not say.
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl Message {
    /// The forum topic to answer in. A thread of replies is no topic: naming it would be refused.
    pub fn topic(&self) -> Option<i64> {
        self.message_thread_id.filter(|_| self.is_topic_message)
    }
}

/// A press of an inline button.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallbackQuery {
    pub id: String,
    #[serde(default)]
    pub from: User,
    /// Absent when the message is too old; has a `date` of 0 when its content is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The bot was added, removed, blocked or unblocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMemberUpdated {
    pub chat: Chat,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<User>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_chat_member: Option<ChatMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMember {
    /// `creator`, `administrator`, `member`, `restricted`, `left` or `kicked`.
    #[serde(default)]
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

/// Someone pressed the native stop button of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedGeneration {
    pub chat: Chat,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    #[serde(default)]
    pub draft_id: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub file_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhotoSize {
    pub file_id: String,
    #[serde(default)]
    pub width: i64,
    #[serde(default)]
    pub height: i64,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    pub file_id: String,
    /// Seconds.
    #[serde(default)]
    pub duration: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<i64>,
}

/// What `getFile` says about a file; `file_path` is good for an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub file_id: String,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
}

/// A stretch of text that looks or acts differently. Offset and length count UTF-16 units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    #[serde(rename = "type")]
    pub kind: EntityKind,
    pub offset: i64,
    pub length: i64,
    /// Only with `TextLink`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Only with `Pre`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Only with `TextMention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
}

impl Entity {
    pub fn new(kind: EntityKind, offset: i64, length: i64) -> Self {
        Entity { kind, offset, length, url: None, language: None, user: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    Bold,
    Italic,
    Underline,
    Strikethrough,
    Spoiler,
    Blockquote,
    ExpandableBlockquote,
    Code,
    Pre,
    TextLink,
    TextMention,
    Mention,
    Hashtag,
    Cashtag,
    BotCommand,
    Url,
    Email,
    PhoneNumber,
    CustomEmoji,
    /// Newer than we are. Never sent.
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineKeyboardMarkup {
    pub inline_keyboard: Vec<Vec<InlineKeyboardButton>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineKeyboardButton {
    pub text: String,
    /// 1 to 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl InlineKeyboardButton {
    /// A button that sends `data` back to the bot.
    pub fn new(text: impl Into<String>, data: impl Into<String>) -> Self {
        InlineKeyboardButton { text: text.into(), callback_data: Some(data.into()), url: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BotCommand {
    /// 1 to 32 of `a-z`, `0-9` and `_`, without the slash.
    pub command: String,
    /// 1 to 256 characters.
    pub description: String,
}

impl BotCommand {
    pub fn new(command: impl Into<String>, description: impl Into<String>) -> Self {
        BotCommand { command: command.into(), description: description.into() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookInfo {
    /// Empty if there is no webhook.
    #[serde(default)]
    pub url: String,
    #[serde(default)]
    pub pending_update_count: i64,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_date: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_updates: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SendMessage {
    pub chat_id: i64,
    pub text: String,
    pub entities: Vec<Entity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    /// The message this one answers; sent anyway if that one is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_parameters: Option<ReplyParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_markup: Option<InlineKeyboardMarkup>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_notification: bool,
    link_preview_options: NoPreview,
}

impl SendMessage {
    pub fn new(chat_id: i64, body: Formatted) -> Self {
        SendMessage {
            chat_id,
            text: body.text,
            entities: body.entities,
            message_thread_id: None,
            reply_parameters: None,
            reply_markup: None,
            disable_notification: false,
            link_preview_options: NoPreview,
        }
    }
}

/// A preview of a reply that is still being written. It fades after 30 seconds; the same `draft_id` replaces it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SendMessageDraft {
    /// Private chats only.
    pub chat_id: i64,
    /// Not zero.
    pub draft_id: i64,
    /// Empty shows "Thinking…".
    pub text: String,
    pub entities: Vec<Entity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    /// Shows a native stop button; a press arrives as `stopped_message_generation`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub can_stop: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_on_stop: bool,
    link_preview_options: NoPreview,
}

impl SendMessageDraft {
    pub fn new(chat_id: i64, draft_id: i64, body: Formatted) -> Self {
        SendMessageDraft {
            chat_id,
            draft_id,
            text: body.text,
            entities: body.entities,
            message_thread_id: None,
            can_stop: false,
            keep_on_stop: false,
            link_preview_options: NoPreview,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EditMessageText {
    pub chat_id: i64,
    pub message_id: i64,
    pub text: String,
    pub entities: Vec<Entity>,
    /// Absent removes the buttons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_markup: Option<InlineKeyboardMarkup>,
    link_preview_options: NoPreview,
}

impl EditMessageText {
    pub fn new(chat_id: i64, message_id: i64, body: Formatted) -> Self {
        EditMessageText {
            chat_id,
            message_id,
            text: body.text,
            entities: body.entities,
            reply_markup: None,
            link_preview_options: NoPreview,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReplyParameters {
    pub message_id: i64,
    allow_sending_without_reply: bool,
}

impl ReplyParameters {
    pub fn to(message_id: i64) -> Self {
        ReplyParameters { message_id, allow_sending_without_reply: true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetWebhook {
    pub url: String,
    /// 1 to 256 of `A-Z`, `a-z`, `0-9`, `_` and `-`.
    pub secret_token: String,
    pub allowed_updates: Vec<String>,
    /// 1 to 100; absent is 40.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
}

impl SetWebhook {
    /// Asks for the [`ALLOWED_UPDATES`].
    pub fn new(url: impl Into<String>, secret_token: impl Into<String>) -> Self {
        SetWebhook {
            url: url.into(),
            secret_token: secret_token.into(),
            allowed_updates: ALLOWED_UPDATES.iter().map(|&kind| kind.to_owned()).collect(),
            max_connections: None,
        }
    }
}

/// A file on its way to a chat.
#[derive(Clone, Debug)]
pub struct Upload {
    pub chat_id: i64,
    pub file_name: String,
    pub bytes: bytes::Bytes,
    /// At most 1024 UTF-16 units.
    pub caption: Option<Formatted>,
    pub message_thread_id: Option<i64>,
    pub reply_markup: Option<InlineKeyboardMarkup>,
}

impl Upload {
    pub fn new(chat_id: i64, file_name: impl Into<String>, bytes: impl Into<bytes::Bytes>) -> Self {
        Upload {
            chat_id,
            file_name: file_name.into(),
            bytes: bytes.into(),
            caption: None,
            message_thread_id: None,
            reply_markup: None,
        }
    }
}

/// A preview makes Telegram fetch the address at once, and with it whatever a model was talked into writing
/// there. So there is no way to build a text without this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoPreview;

impl Serialize for NoPreview {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut options = serializer.serialize_struct("LinkPreviewOptions", 1)?;
        options.serialize_field("is_disabled", &true)?;
        options.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(json: &str) -> Update {
        serde_json::from_str(json).expect("an update")
    }

    #[test]
    fn a_message_needs_little_and_ignores_the_rest() {
        let message =
            update(r#"{"update_id":1,"message":{"message_id":2,"chat":{"id":3,"future":{}},"sticker":{"x":1}}}"#)
                .message
                .expect("a message");
        assert_eq!((message.message_id, message.chat.id, message.chat.kind.as_str()), (2, 3, ""));
        assert_eq!((message.from, message.text, message.photo), (None, None, vec![]));
        assert_eq!(
            update(r#"{"update_id":9,"purchased_paid_media":{}}"#),
            Update { update_id: 9, ..Update::default() }
        );
    }

    #[test]
    fn each_allowed_kind_of_update_is_read() {
        let read = update(
            r#"{"update_id":1,
                "message":{"message_id":1,"chat":{"id":1,"type":"private"},"from":{"id":5,"first_name":"A","language_code":"ko"},
                    "text":"/stop@parrot_bot","entities":[{"type":"bot_command","offset":0,"length":16},{"type":"hologram","offset":0,"length":1}],
                    "photo":[{"file_id":"s","width":1,"height":1},{"file_id":"l","width":9,"height":9}],
                    "voice":{"file_id":"v","duration":3},"document":{"file_id":"d","file_name":"a.pdf"},
                    "reply_to_message":{"message_id":0,"chat":{"id":1}}},
                "edited_message":{"message_id":1,"chat":{"id":1}},
                "callback_query":{"id":"q","from":{"id":5},"data":"act:1","message":{"message_id":1,"date":0,"chat":{"id":1}}},
                "my_chat_member":{"chat":{"id":1},"new_chat_member":{"status":"kicked","user":{"id":5}}},
                "stopped_message_generation":{"chat":{"id":1},"draft_id":77}}"#,
        );
        let message = read.message.expect("a message");
        assert_eq!(message.from.and_then(|from| from.language_code).as_deref(), Some("ko"));
        assert_eq!(
            message.entities.iter().map(|e| e.kind).collect::<Vec<_>>(),
            [EntityKind::BotCommand, EntityKind::Other]
        );
        assert_eq!(message.photo.last().map(|photo| photo.file_id.as_str()), Some("l"));
        assert_eq!(message.voice.map(|voice| voice.duration), Some(3));
        assert_eq!(message.document.and_then(|document| document.file_name).as_deref(), Some("a.pdf"));
        assert!(message.reply_to_message.is_some() && read.edited_message.is_some());
        assert_eq!(read.callback_query.and_then(|query| query.data).as_deref(), Some("act:1"));
        let member = read.my_chat_member.and_then(|change| change.new_chat_member);
        assert_eq!(member.map(|member| member.status).as_deref(), Some("kicked"));
        assert_eq!(read.stopped_message_generation.map(|stopped| stopped.draft_id), Some(77));
    }

    #[test]
    fn what_was_read_can_be_written_and_read_again() {
        let json = r#"{"update_id":1,"message":{"message_id":1,"chat":{"id":-5,"type":"group","title":"birds"},"date":7,"text":"hi"}}"#;
        assert_eq!(serde_json::to_string(&update(json)).expect("JSON"), json);
    }
}
