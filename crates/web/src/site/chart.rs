//! Charts, drawn here as SVG, so that they need no script and can be tested. Colours come from the stylesheet.

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub label: String,
    pub value: i64,
    /// The value as people read it.
    pub shown: String,
}

const WIDTH: usize = 640;
/// A bar with its gap, at most.
const WIDEST: usize = 64;
const HEIGHT: usize = 180;
const BELOW: usize = 24;
const ABOVE: usize = 18;
/// How wide a label is, in the larger letters of a card or a phone.
const LABEL: usize = 56;
/// Between two labels.
const GAP: usize = 6;
/// A name with the line below it.
const ROW: usize = 40;

/// Bars beside each other. `title` says what they are to whoever does not see them.
pub(crate) fn bars(bars: &[Bar], title: &str) -> String {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    // A single day is a bar, too, and not a wall.
    let step = (WIDTH / bars.len().max(1)).min(WIDEST);
    let room = HEIGHT - BELOW - ABOVE;
    // Where the next label has room; the others are told by whoever is pointed at.
    let mut free = 0;
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    );
    let top = bars.iter().max_by_key(|bar| bar.value).filter(|bar| bar.value > 0);
    if let Some(top) = top {
        out.push_str(&format!("<text class=\"most\" x=\"0\" y=\"12\">{}</text>", escaped(&top.shown)));
    }
    let base = HEIGHT - BELOW;
    out.push_str(&format!("<path class=\"base\" d=\"M0 {base}H{WIDTH}\"/>"));
    for (at, bar) in bars.iter().enumerate() {
        let x = at * step + step / 8;
        let tall = usize::try_from(bar.value.max(0) as i128 * room as i128 / i128::from(most)).unwrap_or(0);
        let tall = if bar.value > 0 { tall.max(2) } else { 0 };
        let (label, shown) = (escaped(&bar.label), escaped(&bar.shown));
        let (y, wide) = (base - tall, step - step / 4);
        out.push_str(&format!(
            "<g><title>{label}: {shown}</title><rect class=\"hit\" x=\"{x}\" y=\"{ABOVE}\" width=\"{wide}\" \
             height=\"{room}\"/><rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\" rx=\"2\"/>"
        ));
        // The first one would begin outside.
        let middle = if at == 0 { (x + wide / 2).max(LABEL / 2) } else { x + wide / 2 };
        if middle >= free + LABEL / 2 {
            free = middle + LABEL / 2 + GAP;
            out.push_str(&format!("<text x=\"{middle}\" y=\"{}\">{label}</text>", HEIGHT - 7));
        }
        out.push_str("</g>");
    }
    out.push_str("</svg>");
    out
}

/// A line for each of what has a name, the names above: they are longer than what stands below a bar.
pub(crate) fn ranks(bars: &[Bar], title: &str) -> String {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let height = bars.len() * ROW;
    let mut out = format!(
        "<svg class=\"chart ranks\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    );
    for (at, bar) in bars.iter().enumerate() {
        let (text, line) = (at * ROW + 18, at * ROW + 24);
        let long = usize::try_from(bar.value.max(0) as i128 * WIDTH as i128 / i128::from(most)).unwrap_or(0);
        let long = if bar.value > 0 { long.max(2) } else { 0 };
        out.push_str(&format!(
            "<text x=\"0\" y=\"{text}\">{}</text><text class=\"shown\" x=\"{WIDTH}\" y=\"{text}\">{}</text>\
             <rect class=\"all\" y=\"{line}\" width=\"{WIDTH}\" height=\"6\" rx=\"3\"/>\
             <rect class=\"bar\" y=\"{line}\" width=\"{long}\" height=\"6\" rx=\"3\"/>",
            escaped(&bar.label),
            escaped(&bar.shown)
        ));
    }
    out.push_str("</svg>");
    out
}

/// How much of an amount is gone, as a line.
pub(crate) fn meter(share: f64, title: &str) -> String {
    let share = share.clamp(0.0, 1.0);
    let class = match share {
        share if share >= 1.0 => "full",
        share if share >= 0.8 => "near",
        _ => "fine",
    };
    format!(
        "<svg class=\"meter {class}\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\"><rect class=\"all\" width=\"100\" height=\"4\" rx=\"2\"/>\
         <rect class=\"gone\" width=\"{:.1}\" height=\"4\" rx=\"2\"/></svg>",
        escaped(title),
        share * 100.0
    )
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: i64) -> Bar {
        Bar { label: label.to_owned(), value, shown: value.to_string() }
    }

    #[test]
    fn the_tallest_bar_is_as_tall_as_there_is_room_and_nothing_is_nothing() {
        let svg = bars(&[bar("a", 10), bar("b", 5), bar("c", 0)], "days");
        assert!(svg.contains("height=\"138\" rx"), "{svg}");
        assert!(svg.contains("height=\"69\" rx"), "{svg}");
        assert!(svg.contains("height=\"0\" rx"), "{svg}");
    }

    #[test]
    fn labels_stand_apart_and_begin_with_the_first() {
        for count in 1..=62 {
            let days: Vec<Bar> = (0..count).map(|day| bar(&format!("day {day}"), 1)).collect();
            let svg = bars(&days, "days");
            let middles: Vec<usize> =
                svg.split("<text x=\"").skip(1).filter_map(|text| text.split('"').next()?.parse().ok()).collect();
            assert!(svg.contains(">day 0</text>") && middles[0] >= LABEL / 2, "{count}: {middles:?}");
            assert!(middles.windows(2).all(|pair| pair[1] >= pair[0] + LABEL + GAP), "{count}: {middles:?}");
            assert!(middles.len() >= count.min(5), "{count}: {middles:?}");
        }
    }

    #[test]
    fn labels_are_text() {
        let svg = bars(&[bar("<b>", 1)], "\"x\"");
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;") && svg.contains("&quot;x&quot;"));
        assert!(bars(&[], "none").ends_with("</svg>"));
    }

    #[test]
    fn ranks_show_whole_names_and_lines_by_their_share() {
        let svg = ranks(&[bar("a-model-with-a-long-name", 10), bar("<b>", 5), bar("c", 0)], "models");
        assert!(
            svg.contains(">a-model-with-a-long-name<") && svg.contains("&lt;b&gt;") && !svg.contains("<b>"),
            "{svg}"
        );
        for width in [
            "width=\"640\" height=\"6\" rx=\"3\"/><rect class=\"bar\" y=\"24\" width=\"640\"",
            "width=\"320\"",
            "width=\"0\"",
        ] {
            assert!(svg.contains(width), "{width} in {svg}");
        }
    }

    #[test]
    fn a_meter_tells_by_its_class_when_it_is_nearly_gone() {
        assert!(
            meter(0.5, "m").contains("fine") && meter(0.85, "m").contains("near") && meter(3.0, "m").contains("full")
        );
    }
}
