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
/// How wide a label is.
const LABEL: usize = 38;

/// Bars beside each other. `title` says what they are to whoever does not see them.
pub(crate) fn bars(bars: &[Bar], title: &str) -> String {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    // A single day is a bar, too, and not a wall.
    let step = (WIDTH / bars.len().max(1)).min(WIDEST);
    let room = HEIGHT - BELOW - ABOVE;
    // So many labels have room; the others are told by whoever is pointed at.
    let every = (bars.len() * (LABEL + 8)).div_ceil(WIDTH).max(1);
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
        if at % every == 0 {
            // The first one would begin outside.
            let middle = (x + wide / 2).max(LABEL / 2);
            out.push_str(&format!("<text x=\"{middle}\" y=\"{}\">{label}</text>", HEIGHT - 7));
        }
        out.push_str("</g>");
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
    fn labels_are_text() {
        let svg = bars(&[bar("<b>", 1)], "\"x\"");
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;") && svg.contains("&quot;x&quot;"));
        assert!(bars(&[], "none").ends_with("</svg>"));
    }

    #[test]
    fn a_meter_tells_by_its_class_when_it_is_nearly_gone() {
        assert!(
            meter(0.5, "m").contains("fine") && meter(0.85, "m").contains("near") && meter(3.0, "m").contains("full")
        );
    }
}
