//! What is shown of a panel: who is at work, and who said what, folded up below the answer.

use salon_core::{Lang, Micros, Reply, Voice, VoiceState};
use salon_telegram::text::{Formatted, is_blank, len_utf16};
use salon_telegram::types::{Entity, EntityKind};

/// Characters that are shown of what a voice said.
const SAID_CHARS: usize = 1500;

/// A line for each voice, as long as several are at work.
pub(super) fn at_work(reply: &Reply, lang: Lang) -> Option<String> {
    // Whoever writes the answer is seen to write it.
    if reply.panel.is_none() || !reply.text.is_empty() || reply.voices.is_empty() {
        return None;
    }
    let line = |voice: &Voice| {
        let holes = [("speaker", voice.speaker.as_str())];
        match &voice.state {
            VoiceState::Speaking => lang.say("reply.voice.speaking", &holes),
            VoiceState::Spoke => lang.say("reply.voice.spoke", &holes),
            VoiceState::Failed(_) => lang.say("reply.voice.failed", &holes),
        }
    };
    Some(reply.voices.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Puts the voices below an answer, if there was more than one.
pub(super) fn append(answer: &mut Formatted, reply: &Reply, lang: Lang) {
    let Some(panel) = reply.panel.as_ref().filter(|_| reply.voices.len() > 1) else { return };
    let cost = |micros: i64| format!("${}", Micros(micros));
    let total: i64 = reply.voices.iter().map(|voice| voice.micros).sum();
    let each = reply.voices.iter().map(|voice| format!("{} {}", voice.speaker, cost(voice.micros)));
    let each = each.collect::<Vec<_>>().join(" · ");
    let mut line = lang.say("reply.voices", &[("panel", &panel.panel), ("each", &each), ("total", &cost(total))]);
    if let Some(why) = panel.cut_short.as_ref().and_then(|why| lang.find(&format!("reply.cut_short.{why}"), &[])) {
        line = format!("{line}\n{why}");
    }
    answer.push_str("\n\n");
    answer.push_str(&line);
    let said = reply.voices.iter().filter(|voice| !voice.answers).map(|voice| {
        let text = match &voice.state {
            VoiceState::Failed(why) => why.as_str(),
            _ => voice.text.trim(),
        };
        let mut short: String = text.chars().take(SAID_CHARS).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        format!("{}: {short}", voice.speaker)
    });
    let said = said.collect::<Vec<_>>().join("\n\n");
    let mut quoted = Formatted::default();
    quoted.push_str(said.trim());
    if is_blank(&quoted.text) {
        return;
    }
    answer.push_str("\n");
    let (offset, length) = (answer.len_utf16() as i64, len_utf16(&quoted.text) as i64);
    answer.text.push_str(&quoted.text);
    answer.entities.push(Entity::new(EntityKind::ExpandableBlockquote, offset, length));
}
