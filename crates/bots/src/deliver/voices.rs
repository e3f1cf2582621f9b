//! What is shown of a panel: who is at work, and who said what, folded up below the answer.

use salon_core::{Lang, Micros, Reply, Voice, VoiceState};
use salon_telegram::text::{Formatted, is_blank, len_utf16};
use salon_telegram::types::{Entity, EntityKind};

/// Characters that are shown of what a voice said.
const SAID_CHARS: usize = 1500;

/// What it can cost and a line for each voice, as long as several are at work.
pub(super) fn at_work(reply: &Reply, lang: Lang) -> Option<String> {
    // Whoever writes the answer is seen to write it.
    let panel = reply.panel.as_ref().filter(|_| reply.text.is_empty() && !reply.voices.is_empty())?;
    let line = |voice: &Voice| {
        let name = name(voice, lang);
        let holes = [("speaker", name.as_str())];
        match &voice.state {
            VoiceState::Speaking => lang.say("reply.voice.speaking", &holes),
            VoiceState::Spoke => lang.say("reply.voice.spoke", &holes),
            VoiceState::Failed(_) => lang.say("reply.voice.failed", &holes),
        }
    };
    let several = panel.gate.as_ref().is_some_and(|(several, _)| *several);
    let quote = several.then(|| {
        let most = cost(panel.most_micros.min(panel.ceiling_micros));
        lang.say("reply.quote", &[("panel", &panel.panel), ("most", &most)])
    });
    Some(quote.into_iter().chain(reply.voices.iter().map(line)).collect::<Vec<_>>().join("\n"))
}

/// Puts the voices below an answer, if there was more than one.
pub(super) fn append(answer: &mut Formatted, reply: &Reply, lang: Lang) {
    let Some(panel) = reply.panel.as_ref().filter(|_| reply.voices.len() > 1) else { return };
    let total: i64 = reply.voices.iter().map(|voice| voice.micros).sum();
    let each = reply.voices.iter().map(|voice| format!("{} {}", name(voice, lang), cost(voice.micros)));
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
        format!("{}: {short}", name(voice, lang))
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

/// What somebody is called. Whoever decides has no name of its own, and perhaps a model that is called gate.
fn name(voice: &Voice, lang: Lang) -> String {
    match voice.part.as_str() {
        "gate" => lang.say("reply.voice.gate", &[]),
        _ => voice.speaker.clone(),
    }
}

fn cost(micros: i64) -> String {
    format!("${}", Micros(micros))
}

#[cfg(test)]
mod tests {
    use salon_core::event::Seating;

    use super::*;

    fn voice(speaker: &str, state: VoiceState, text: &str) -> Voice {
        let (speaker, text) = (speaker.to_owned(), text.to_owned());
        let (part, model) = (String::new(), "m".to_owned());
        let answers = false;
        Voice { speaker, part, model, round: 1, text, state, answers, tokens_in: 1, tokens_out: 1, micros: 1_500 }
    }

    fn reply(voices: Vec<Voice>) -> Reply {
        let panel = Seating {
            panel: "law".into(),
            seats: Vec::new(),
            most_micros: 20_000,
            ceiling_micros: 50_000,
            gate: Some((true, "risk".into())),
            cut_short: None,
        };
        Reply { panel: Some(panel), voices, ..Reply::default() }
    }

    #[test]
    fn who_is_at_work_has_a_line() {
        let away = VoiceState::Failed("It is away.".into());
        let mut reply = reply(vec![
            voice("Ann", VoiceState::Spoke, "yes"),
            voice("Ben", VoiceState::Speaking, ""),
            voice("Eve", away, ""),
        ]);
        let lines = "👥 law: at most $0.02\n✅ Ann\n💬 Ben is at it …\n⚠️ Eve";
        assert_eq!(at_work(&reply, Lang::En).as_deref(), Some(lines));
        reply.voices = vec![Voice { part: "gate".into(), ..voice("gate", VoiceState::Spoke, "MULTI") }];
        assert_eq!(at_work(&reply, Lang::En).as_deref(), Some("👥 law: at most $0.02\n✅ Who is asked"));
        reply.text.push('4');
        assert_eq!(at_work(&reply, Lang::En), None);
    }

    #[test]
    fn voices_are_folded_up_below_the_answer() {
        let mut one = Formatted { text: "4".into(), entities: Vec::new() };
        append(&mut one, &reply(vec![voice("Ann", VoiceState::Spoke, "4")]), Lang::En);
        assert_eq!(one.text, "4", "one voice is no panel");
        let mut answer = Formatted { text: "4 🦢".into(), entities: Vec::new() };
        let mut both = reply(vec![voice("Ann", VoiceState::Spoke, "five"), voice("Ben", VoiceState::Spoke, "four")]);
        if let Some(panel) = &mut both.panel {
            panel.cut_short = Some("ceiling".into());
        }
        append(&mut answer, &both, Lang::En);
        let line = "👥 law: Ann $0.0015 · Ben $0.0015 = $0.003\nMore would have gone beyond the ceiling.";
        let quoted = "Ann: five\n\nBen: four";
        assert_eq!(answer.text, format!("4 🦢\n\n{line}\n{quoted}"));
        let [entity] = answer.entities.as_slice() else { panic!("{:?}", answer.entities) };
        let from = salon_telegram::text::byte_of_utf16(&answer.text, entity.offset as usize);
        assert_eq!(from.map(|from| &answer.text[from..]), Some(quoted));
        assert_eq!(entity.length as usize, quoted.len());
    }
}
