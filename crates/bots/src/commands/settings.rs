//! `/settings`: language, style, view, and who answers, by buttons.
//!
//! Language and style are the person's, whichever bot they speak to. In a group there is no person to choose for: there the
//! style is the dialog's alone.

use salon_core::style::Style;
use salon_core::{Lang, OrgId, UserId, View};
use salon_store::{Account, Result, Taste, Tx};

use crate::commands;
use crate::context::Context;
use crate::menus::{self, Choice, Rows};
use crate::notice::Notice;

/// Names on one page.
const PAGE: usize = 6;
/// Characters of a name on a button.
const NAME: usize = 48;
/// Telegram's limit for the words that answer a press.
const TOAST: usize = 200;

/// The menu as it is opened by the command.
pub async fn open(tx: &mut Tx, cx: &Context) -> Result<Notice> {
    let (text, rows) = menu(tx, cx).await?;
    Ok(Notice::plain(cx, text).with_rows(rows))
}

pub async fn back(tx: &mut Tx, cx: &Context) -> Result<String> {
    show(tx, cx).await?;
    Ok(menus::chosen(cx))
}

pub async fn choose_lang(tx: &mut Tx, cx: &Context, tag: &str) -> Result<String> {
    let lang = Lang::from_tag(Some(tag));
    change_taste(tx, cx, |taste| taste.lang = Some(lang.tag().to_owned())).await?;
    let cx = &Context { lang, ..cx.clone() };
    tx.hear_chat(cx.bot.id(), cx.chat, lang).await?;
    back(tx, cx).await
}

pub async fn choose_style(tx: &mut Tx, cx: &Context, name: &str) -> Result<String> {
    let Some(style) = Style::parse(name) else { return Ok(cx.lang.say("callback.unknown", &[])) };
    if cx.chat.is_private() {
        change_taste(tx, cx, |taste| taste.style = Some(style.as_str().to_owned())).await?;
    }
    // Also for the dialog that is going on: what was chosen for it would count more.
    let dialog = cx.dialog(tx).await?;
    tx.set_style(&dialog.id, Some(style.as_str())).await?;
    back(tx, cx).await
}

pub async fn choose_view(tx: &mut Tx, cx: &Context, name: &str) -> Result<String> {
    let Some(view) = View::parse(name) else { return Ok(cx.lang.say("callback.unknown", &[])) };
    let dialog = cx.dialog(tx).await?;
    tx.set_view(&dialog.id, view).await?;
    back(tx, cx).await
}

pub async fn choose_engine(tx: &mut Tx, cx: &Context, name: &str) -> Result<String> {
    let known = tx.find_latest_dialog(cx.bot.id(), cx.chat).await?;
    let current = commands::current(cx, known.as_ref());
    if current != name {
        let (text, switched) = commands::mode(tx, cx, cx.lang, known.as_ref(), name).await?;
        if switched.is_none() {
            return Ok(text.chars().take(TOAST).collect());
        }
    }
    if cx.chat.is_private() {
        change_taste(tx, cx, |taste| taste.engine = Some(name.to_owned())).await?;
    }
    back(tx, cx).await
}

/// Shows a page of those who could answer.
pub async fn turn_to(tx: &mut Tx, cx: &Context, page: usize) -> Result<String> {
    let known = tx.find_latest_dialog(cx.bot.id(), cx.chat).await?;
    let current = commands::current(cx, known.as_ref());
    let names = offered(cx);
    let pages = names.len().div_ceil(PAGE).max(1);
    let page = page.min(pages - 1);
    let mut rows: Rows = names
        .iter()
        .skip(page * PAGE)
        .take(PAGE)
        .map(|name| vec![Choice::ticked(&shortened(name), *name == current, format!("engine:{name}"))])
        .collect();
    let mut turns = Vec::new();
    if page > 0 {
        turns.push(Choice::new("◀️", format!("engines:{}", page - 1)));
    }
    turns.push(Choice::new(cx.lang.say("settings.back", &[]), "settings"));
    if page + 1 < pages {
        turns.push(Choice::new("▶️", format!("engines:{}", page + 1)));
    }
    rows.push(turns);
    let holes = [("page", (page + 1).to_string()), ("pages", pages.to_string())];
    let text = cx.lang.say("settings.engines", &holes.each_ref().map(|(name, value)| (*name, value.as_str())));
    cx.tell(tx, Notice::in_place(cx, text).with_rows(rows)).await?;
    Ok(menus::chosen(cx))
}

/// Who could answer here, and may answer this person.
fn offered(cx: &Context) -> Vec<String> {
    let engines = &cx.salon.engines;
    let configured =
        engines.all().iter().filter(|engine| engine.selectable && engine.installed && cx.bot.suits(engine));
    let mut names: Vec<String> = configured.map(|engine| engine.name.clone()).collect();
    let org = cx.person.as_ref().map(|person| person.account.user.org.clone());
    let org = org.unwrap_or_else(|| OrgId::new(salon::people::DEFAULT_ORG));
    names.extend(engines.models(Some(&org)));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| cx.may_ask(name) && seen.insert(name.clone()));
    names
}

async fn show(tx: &mut Tx, cx: &Context) -> Result<()> {
    let (text, rows) = menu(tx, cx).await?;
    cx.tell(tx, Notice::in_place(cx, text).with_rows(rows)).await
}

async fn menu(tx: &mut Tx, cx: &Context) -> Result<(String, Rows)> {
    let lang = cx.lang;
    let dialog = tx.find_latest_dialog(cx.bot.id(), cx.chat).await?;
    let account = tx.find_account_of_telegram(cx.user).await?.map(|(account, _)| account);
    let mut style = match &dialog {
        Some(dialog) => tx.find_style(&dialog.id).await?,
        None => None,
    };
    if style.is_none() && cx.chat.is_private() {
        style = account.and_then(|account| account.taste.style);
    }
    let style = style.as_deref().and_then(Style::parse).unwrap_or_default();
    let view = cx.view(dialog.as_ref());
    let engine = shortened(&commands::current(cx, dialog.as_ref()));
    let style_name = |style: Style| lang.say(&format!("style.{}", style.as_str()), &[]);
    let view_name = |view: View| lang.say(&format!("view.{}", view.as_str()), &[]);
    let mut rows = Rows::new();
    if cx.chat.is_private() {
        let choice = |one: Lang| Choice::ticked(&one.say("language", &[]), one == lang, format!("lang:{}", one.tag()));
        rows.push(Lang::PEOPLE.map(choice).to_vec());
    }
    let choice = |one: Style| Choice::ticked(&style_name(one), one == style, format!("style:{}", one.as_str()));
    rows.push(Style::ALL.map(choice).to_vec());
    let choice = |one: View| Choice::ticked(&view_name(one), one == view, format!("view:{}", one.as_str()));
    rows.push([View::Answer, View::Events].map(choice).to_vec());
    rows.push(vec![Choice::new(lang.say("settings.engine", &[("engine", &engine)]), "engines:0")]);
    let holes = [
        ("language", lang.say("language", &[])),
        ("style", style_name(style)),
        ("view", view_name(view)),
        ("engine", engine),
    ];
    let text = lang.say("settings", &holes.each_ref().map(|(name, value)| (*name, value.as_str())));
    Ok((text, rows))
}

/// Changes what the person likes; who only ever spoke in Telegram becomes known by that.
async fn change_taste(tx: &mut Tx, cx: &Context, change: impl FnOnce(&mut Taste)) -> Result<()> {
    let account = account(tx, cx).await?;
    let Some(Account { user, mut taste, .. }) = account else { return Ok(()) };
    change(&mut taste);
    tx.set_taste(&user.id, &taste).await
}

async fn account(tx: &mut Tx, cx: &Context) -> Result<Option<Account>> {
    let (id, now) = (UserId::new(cx.salon.clock.id()), cx.salon.clock.now());
    let user =
        salon::people::person_of_telegram(tx, &cx.salon.pen(salon::audit::Actor::Salon), cx.user, &cx.name, &id, now)
            .await?;
    tx.find_account(&user.id).await
}

pub(super) fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    format!("{}…", name.chars().take(NAME).collect::<String>())
}
