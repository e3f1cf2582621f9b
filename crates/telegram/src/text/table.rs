//! Tables, drawn with the characters of a typewriter.

use pulldown_cmark::Alignment;
use unicode_width::UnicodeWidthStr;

/// Columns wider than this are not made to line up: one long cell would push every row off the screen.
const WIDEST: usize = 40;

/// Draws the rows below each other, the first one as head. A Korean syllable counts as two columns.
pub(super) fn draw(alignments: &[Alignment], rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width().min(WIDEST)).max().unwrap_or(0)
        })
        .collect();
    let mut drawn = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number == 1 {
            let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width.max(1))).collect();
            drawn.push_str(&dashes.join("-+-"));
            drawn.push('\n');
        }
        let mut line = String::new();
        for (column, &width) in widths.iter().enumerate() {
            if column > 0 {
                line.push_str(" | ");
            }
            let cell = row.get(column).map_or("", String::as_str);
            let missing = width.max(1).saturating_sub(cell.width());
            let before = match alignments.get(column) {
                Some(Alignment::Right) => missing,
                Some(Alignment::Center) => missing / 2,
                _ => 0,
            };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', missing - before));
        }
        drawn.push_str(line.trim_end());
        drawn.push('\n');
    }
    drawn
}
