//! Linking: a code from the web page makes somebody of Telegram a person here, and `/unlink` takes that back.

use salon::audit::Actor;
use salon::logins::passes::{self, Linking};
use salon_core::Lang;
use salon_store::{Result, Tx};

use crate::admission::Person;
use crate::context::Context;
use crate::menus::{self, Choice};
use crate::notice::Notice;

/// The page on which codes are made.
pub const CODES: &str = "/start";

/// What became of a code: what is said, and whether it was a guess.
pub struct Told {
    pub text: String,
    pub guessed: bool,
}

/// Uses a code up, if it is one. `None` if there is no such code and `perhaps` says that it may be none at all.
pub async fn use_code(tx: &mut Tx, cx: &Context, hash: &str, perhaps: bool) -> Result<Option<Told>> {
    let linking = passes::link(tx, &cx.salon.pen(Actor::Guest), hash, cx.user, &cx.name, cx.salon.clock.now()).await?;
    let told = |key: &str| Ok(Some(Told { text: say(cx, key), guessed: false }));
    match linking {
        Linking::Linked(user) => {
            let account = tx.find_account(&user).await?;
            let chosen = account.as_ref().and_then(|account| account.taste.lang.as_deref());
            let lang = chosen.map_or(cx.lang, |tag| Lang::from_tag(Some(tag)));
            let name = account.map(|account| account.user.name).unwrap_or_default();
            Ok(Some(Told { text: lang.say("link.linked", &[("name", &name)]), guessed: false }))
        }
        Linking::Used => told("link.used"),
        Linking::Expired => told("link.expired"),
        Linking::Already => told("link.already"),
        Linking::Unknown if perhaps => Ok(None),
        Linking::Unknown => Ok(Some(Told { text: say(cx, "link.unknown"), guessed: true })),
    }
}

/// `/unlink` asks before it does anything.
pub fn ask(cx: &Context) -> Notice {
    let say = |key: &str| say(cx, key);
    if !cx.chat.is_private() {
        return Notice::plain(cx, say("link.private"));
    }
    let Some(person) = cx.person.as_ref().filter(|person| person.is_linked()) else {
        return Notice::plain(cx, say("unlink.none"));
    };
    let text = cx.lang.say("unlink", &[("name", &person.account.user.name)]);
    let choices = vec![Choice::new(say("unlink.yes"), "unlink"), Choice::new(say("unlink.no"), "keep")];
    Notice::plain(cx, text).with_rows(vec![choices])
}

/// Takes the link back.
pub async fn unlink(tx: &mut Tx, cx: &Context) -> Result<String> {
    let known = tx.find_account_of_telegram(cx.user).await?;
    let person = known.map(|(account, linked)| Person { account, linked }).filter(Person::is_linked);
    let key = match person {
        None => "unlink.none",
        Some(person) => {
            let user = &person.account.user.id;
            passes::unlink(tx, &cx.salon.pen(user), user, cx.user, &passes::Names::new(&cx.salon.clock)).await?;
            "unlink.done"
        }
    };
    cx.tell(tx, Notice::in_place(cx, say(cx, key))).await?;
    Ok(menus::chosen(cx))
}

/// A sentence that may name the page on which codes are made.
fn say(cx: &Context, key: &str) -> String {
    cx.lang.say(key, &[("at", &cx.salon.settings.place_of(CODES))])
}
