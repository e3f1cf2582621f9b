//! Places where a debug build can be made to die, so that a test sees what a crash there leaves behind.
//!
//! `SALON_FAIL_POINT=name@n` ends the process by `abort` at the n-th time the point is passed. Release builds have none
//! of this. [`POINTS`] is the list that the tests walk through; naming a point that is not in it fails at once.

/// Every named point, roughly in the order in which a question passes them.
///
/// Every commit passes the first two, whatever it is for; those that decide something have points of their own besides.
/// Every call that changes something at Telegram is a pair that bears its method's name.
pub const POINTS: &[&str] = &[
    "commit.before",
    "commit.after",
    "setMyCommands.before",
    "setMyCommands.after",
    "setWebhook.before",
    "setWebhook.after",
    "deleteWebhook.before",
    "deleteWebhook.after",
    "getUpdates.before",
    "getUpdates.after",
    "webhook.before_commit",
    "webhook.after_commit",
    "poll.before_commit",
    "poll.after_commit",
    "update.before_commit",
    "update.after_commit",
    "answerCallbackQuery.before",
    "answerCallbackQuery.after",
    "run.before_start",
    "run.after_start",
    "run.before_finish",
    "run.after_finish",
    "sendMessage.before",
    "sendMessage.after",
    "deliver.before_record",
    "deliver.after_record",
    "sendChatAction.before",
    "sendChatAction.after",
    "sendMessageDraft.before",
    "sendMessageDraft.after",
    "editMessageText.before",
    "editMessageText.after",
    "deleteMessage.before",
    "deleteMessage.after",
    "deliver.before_finish",
    "deliver.after_finish",
];

/// The named points that a stateless call passes; a conversation passes none of them.
pub const RELAY_POINTS: &[&str] =
    &["ledger.before_reserve", "ledger.after_reserve", "ledger.before_settle", "ledger.after_settle"];

/// The named points that a call passes besides where it is put down before the database has it.
pub const JOURNAL_POINTS: &[&str] = &["journal.before_line", "journal.after_line"];

/// The named points that what an agent leaves passes on its way into a chat.
pub const FILE_POINTS: &[&str] = &["sendPhoto.before", "sendPhoto.after", "sendDocument.before", "sendDocument.after"];

/// Calls of the Bot API after which nothing there is other than before.
#[cfg(debug_assertions)]
const QUESTIONS: &[&str] = &["getMe", "getWebhookInfo", "getFile"];

/// Dies here if the environment says so. See the module documentation.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::pass($name);
    };
}

#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLAN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let known = [POINTS, RELAY_POINTS, JOURNAL_POINTS, FILE_POINTS].iter().any(|points| points.contains(&name));
    debug_assert!(known, "{name} is not in the list of fail points");
    #[expect(clippy::disallowed_methods, reason = "a debug build's own switch, read where it acts")]
    let plan = PLAN.get_or_init(|| {
        let plan = std::env::var("SALON_FAIL_POINT").ok()?;
        let (name, times) = plan.split_once('@').unwrap_or((&plan, "1"));
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((point, times)) = plan
        && point == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        std::process::abort();
    }
}

/// Passes the point right before a call of the Bot API, or right behind it. A call that is new here fails at once: it
/// belongs into [`POINTS`], and so into the tests' walk, or among those that change nothing.
#[cfg(debug_assertions)]
pub fn pass_call(method: &str, done: bool) {
    if !QUESTIONS.contains(&method) {
        pass(&format!("{method}.{}", if done { "after" } else { "before" }));
    }
}

#[cfg(not(debug_assertions))]
pub fn pass_call(_method: &str, _done: bool) {}

/// Whether a debug build was told to break a rule (`SALON_SABOTAGE`), so that a test can see that the rule is needed.
#[cfg(debug_assertions)]
pub fn sabotaged(what: &str) -> bool {
    use std::sync::OnceLock;

    static SABOTAGE: OnceLock<Option<String>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a debug build's own switch, read where it acts")]
    let sabotage = SABOTAGE.get_or_init(|| std::env::var("SALON_SABOTAGE").ok());
    sabotage.as_deref() == Some(what)
}

#[cfg(not(debug_assertions))]
pub fn sabotaged(_what: &str) -> bool {
    false
}
