//! The Telegram side: from an update to a reaction, and from a turn's log to messages.
//!
//! - [`roster`] reads which bots there are; [`roll`] tells the audit what became of them; [`fleet`] keeps them running as the roster wants.
//! - [`poll`] takes updates in; webhooks come through [`fleet::Fleet::admit`].
//! - [`update`] understands an update, in one transaction: [`commands`], [`buttons`], or something said.
//! - [`admission`] says whom a bot is for; [`menus`] choose settings and dialogs by buttons; [`chart`] draws what was used.
//! - [`deliver`] reads a turn's log and shows it; [`notice`] shows everything else. Both speak through [`courier`].
//! - [`alert`] tells people that a limit is nearly used up.
//! - [`voice`] shows in a group what one voice of a panel said.
//! - [`bridge`] is the `events` view.
//!
//! Every job here may be run again after a crash at any moment.

pub mod action;
pub mod admission;
pub mod alert;
pub mod bridge;
pub mod buttons;
pub mod chart;
pub mod commands;
pub mod context;
pub mod courier;
pub mod deliver;
pub mod fleet;
pub mod later;
pub mod menus;
pub mod notice;
pub mod poll;
pub mod roll;
pub mod roster;
pub mod update;
pub mod voice;

use std::sync::Arc;
use std::time::Duration;

use salon::youtube::YouTube;
use salon::{Job, Next, Salon, Work};

pub use fleet::{Fleet, Source, Status};
pub use roster::{BotConfig, Surroundings};

/// The jobs of this crate.
pub fn jobs(fleet: &Arc<Fleet>, youtube: YouTube) -> Vec<Arc<dyn Job>> {
    vec![
        Arc::new(update::React { fleet: fleet.clone(), youtube }),
        Arc::new(action::Promote { fleet: fleet.clone() }),
        Arc::new(later::AskLater { fleet: fleet.clone() }),
        Arc::new(deliver::Deliver { fleet: fleet.clone() }),
        Arc::new(notice::ShowNotice { fleet: fleet.clone() }),
        Arc::new(voice::ShowVoice { fleet: fleet.clone() }),
        Arc::new(poll::Poll { fleet: fleet.clone() }),
    ]
}

/// What becomes of a job whose bot is not here. Another process may have it, or it may come back: a list is edited, a
/// file is put in place a second later. What was acknowledged is not dropped for that.
fn absent(salon: &Salon, work: &Work) -> Next {
    let age = salon.clock.now().since(work.job.created_at);
    if age < PATIENCE_FOR_A_BOT {
        return Next::Snooze((age / 4).clamp(Duration::from_secs(1), Duration::from_secs(60)));
    }
    Next::Retry("its bot is gone".to_owned())
}

const PATIENCE_FOR_A_BOT: Duration = Duration::from_secs(24 * 60 * 60);
