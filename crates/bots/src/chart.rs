//! A chart of how much was used day by day, as a PNG: a few rectangles and a few digits, which need no library.

use serde::{Deserialize, Serialize};

/// What was used, a bar for each day, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    pub days: Vec<Day>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Of the month; stands below the bar.
    pub number: u8,
    pub tokens: i64,
}

const WIDTH: usize = 640;
const HEIGHT: usize = 320;
const LEFT: usize = 78;
const RIGHT: usize = 16;
const TOP: usize = 24;
const BOTTOM: usize = 40;
/// How much larger than its dots a letter is drawn.
const SCALE: usize = 3;
const LINES: usize = 4;

/// Colours by their number: paper, lines, bars, ink.
const PALETTE: [[u8; 3]; 4] = [[0xff, 0xff, 0xff], [0xdd, 0xe3, 0xea], [0x2f, 0x7f, 0xd1], [0x33, 0x3b, 0x45]];
const PAPER: u8 = 0;
const LINE: u8 = 1;
const BAR: u8 = 2;
const INK: u8 = 3;

impl Chart {
    /// The picture; the same chart is always the same picture.
    pub fn png(&self) -> Vec<u8> {
        let mut canvas = Canvas::default();
        let most = scale_end(self.days.iter().map(|day| day.tokens).max().unwrap_or(0));
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        for line in 0..=LINES {
            let y = TOP + height - height * line / LINES;
            canvas.fill((LEFT, y), (width, 1), LINE);
            let label = short(most / LINES as i64 * line as i64);
            canvas.write(&label, (LEFT.saturating_sub(10 + extent(&label)), y.saturating_sub(7)));
        }
        let step = width / self.days.len().max(1);
        for (at, day) in self.days.iter().enumerate() {
            let share = day.tokens.clamp(0, most) as f64 / most as f64;
            let tall = (share * height as f64).round() as usize;
            // What is not nothing is seen.
            let tall = if day.tokens > 0 { tall.max(2) } else { 0 };
            let (x, wide) = (LEFT + at * step + step / 6, step * 2 / 3);
            canvas.fill((x, TOP + height - tall), (wide, tall), BAR);
            let label = day.number.to_string();
            let middle = (x + wide / 2).saturating_sub(extent(&label) / 2);
            canvas.write(&label, (middle, HEIGHT - BOTTOM + 10));
        }
        canvas.fill((LEFT, TOP + height), (width, 2), INK);
        canvas.png()
    }
}

/// The end of the scale: the next 4, 8, 12, 20 or 40 with noughts, so that a quarter of it is a plain number.
fn scale_end(most: i64) -> i64 {
    let mut unit = 1i64;
    loop {
        for step in [4, 8, 12, 20] {
            let Some(end) = unit.checked_mul(step) else { return i64::MAX / 2 };
            if end >= most {
                return end;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// A number in at most four characters, such as `950`, `1.2k` or `34M`.
fn short(number: i64) -> String {
    let (mut whole, mut tenth, mut unit) = (number, 0, "");
    for next in ["k", "M", "B", "T"] {
        if whole < 1000 {
            break;
        }
        (whole, tenth, unit) = (whole / 1000, whole % 1000 / 100, next);
    }
    match (whole, tenth) {
        (whole @ 0..10, tenth @ 1..) => format!("{whole}.{tenth}{unit}"),
        (whole, _) => format!("{whole}{unit}"),
    }
}

/// How wide a text is when it is written.
fn extent(text: &str) -> usize {
    (text.len() * 4).saturating_sub(1) * SCALE
}

struct Canvas {
    /// A byte for each dot, row by row.
    dots: Vec<u8>,
}

impl Default for Canvas {
    fn default() -> Self {
        Canvas { dots: vec![PAPER; WIDTH * HEIGHT] }
    }
}

impl Canvas {
    fn fill(&mut self, (x, y): (usize, usize), (wide, tall): (usize, usize), colour: u8) {
        for row in y.min(HEIGHT)..(y + tall).min(HEIGHT) {
            let (from, to) = (x.min(WIDTH), (x + wide).min(WIDTH));
            self.dots[row * WIDTH + from..row * WIDTH + to].fill(colour);
        }
    }

    fn write(&mut self, text: &str, (x, y): (usize, usize)) {
        for (at, letter) in text.chars().enumerate() {
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    let place = (x + (at * 4 + column) * SCALE, y + row * SCALE);
                    self.fill(place, (SCALE, SCALE), INK);
                }
            }
        }
    }

    /// Four dots to a byte, each row after a byte that says that it is told as it is, and nothing compressed.
    fn png(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(HEIGHT * (1 + WIDTH / 4));
        for row in self.dots.chunks(WIDTH) {
            rows.push(0);
            rows.extend(row.chunks(4).map(|dots| dots.iter().fold(0, |byte, dot| byte << 2 | (dot & 3))));
        }
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut head = Vec::new();
        head.extend((WIDTH as u32).to_be_bytes());
        head.extend((HEIGHT as u32).to_be_bytes());
        head.extend([2, 3, 0, 0, 0]);
        chunk(&mut png, b"IHDR", &head);
        chunk(&mut png, b"PLTE", PALETTE.as_flattened());
        chunk(&mut png, b"IDAT", &stored(&rows));
        chunk(&mut png, b"IEND", &[]);
        png
    }
}

/// The dots of a digit or a letter, three to a row.
fn glyph(letter: char) -> [u8; 5] {
    match letter {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b001, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        '.' => [0b000, 0b000, 0b000, 0b000, 0b010],
        'k' => [0b100, 0b101, 0b110, 0b110, 0b101],
        'M' => [0b101, 0b111, 0b111, 0b101, 0b101],
        'B' => [0b110, 0b101, 0b110, 0b101, 0b110],
        'T' => [0b111, 0b010, 0b010, 0b010, 0b010],
        _ => [0; 5],
    }
}

/// A chunk of a PNG: its length, its name, its bytes, and a checksum over the last two.
fn chunk(png: &mut Vec<u8>, name: &[u8; 4], bytes: &[u8]) {
    png.extend((bytes.len() as u32).to_be_bytes());
    let from = png.len();
    png.extend(name);
    png.extend(bytes);
    let sum = crc(&png[from..]);
    png.extend(sum.to_be_bytes());
}

/// A stream that zlib reads, of blocks that are stored as they are (RFC 1950 and 1951).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = bytes.chunks(0xffff);
    let last = blocks.len().saturating_sub(1);
    for (at, block) in blocks.enumerate() {
        let length = block.len() as u16;
        stream.push(u8::from(at == last));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler(bytes).to_be_bytes());
    stream
}

/// CRC-32 as PNG wants it.
fn crc(bytes: &[u8]) -> u32 {
    let byte = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(!0, byte)
}

/// Adler-32 as zlib wants it.
fn adler(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_that_everybody_computes() {
        assert_eq!(crc(b"IEND"), 0xae42_6082);
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_picture_has_the_parts_of_a_png_and_a_bar_for_each_day() {
        let days = (1..=14).map(|number| Day { number, tokens: i64::from(number) * 1_000 }).collect();
        let png = Chart { days }.png();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x02\x80\x00\x00\x01\x40"));
        assert!(png.ends_with(b"IEND\xae\x42\x60\x82"));
        // All rows, their marks, the frames of the blocks, and little else.
        let rows = HEIGHT * (1 + WIDTH / 4);
        assert!((rows..rows + 200).contains(&png.len()), "{}", png.len());
    }

    #[test]
    fn the_tallest_bar_is_drawn_as_tall_as_its_share_of_the_scale() {
        let tall = |tokens: i64, most: i64| {
            let days = vec![Day { number: 1, tokens }, Day { number: 2, tokens: most }];
            let mut canvas = Canvas::default();
            let png = Chart { days }.png();
            // The dots are read back from the picture: behind its head, each row after its mark.
            let start = png.windows(4).position(|name| name == b"IDAT").expect("dots") + 4 + 2 + 5;
            for (y, row) in png[start..].chunks(1 + WIDTH / 4).take(HEIGHT).enumerate() {
                for (x, byte) in row[1..].iter().enumerate() {
                    (0..4).for_each(|dot| canvas.dots[y * WIDTH + x * 4 + dot] = byte >> (6 - 2 * dot) & 3);
                }
            }
            let column = LEFT + (WIDTH - LEFT - RIGHT) / 4;
            (0..HEIGHT).filter(|y| canvas.dots[y * WIDTH + column] == BAR).count()
        };
        let height = HEIGHT - TOP - BOTTOM;
        assert_eq!(tall(0, 8_000), 0);
        assert_eq!(tall(4_000, 8_000), height / 2);
        assert_eq!(tall(1, 8_000), 2, "what is not nothing is seen");
    }

    #[test]
    fn numbers_are_short_and_scales_end_on_plain_ones() {
        let shown = [0, 7, 950, 1_000, 1_250, 34_567, 1_500_000, 2_000_000_000].map(short);
        assert_eq!(shown, ["0", "7", "950", "1k", "1.2k", "34k", "1.5M", "2B"]);
        assert_eq!([0, 4, 5, 13, 21, 999].map(scale_end), [4, 4, 8, 20, 40, 1_200]);
        assert!(scale_end(i64::MAX) > 0);
    }
}
