//! Statements for many rows at once, as static text.
//!
//! A visit to the database costs more than a row does, so rows are written in bundles. The text of each bundle's size is
//! made when Salon is compiled; sizes are powers of two, so that any number of rows takes a handful of statements.

/// The most rows of one statement.
pub(crate) const LARGEST: usize = 64;

/// Cuts rows into bundles for which there is a text, the largest first.
pub(crate) fn bundles<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = match rest.len() {
            0 => return None,
            n => (1 << n.ilog2()).min(LARGEST),
        };
        let (bundle, left) = rest.split_at(size);
        rest = left;
        Some(bundle)
    })
}

/// Defines `fn name(dialect: Dialect, rows: usize) -> &'static str`: a text with placeholders for so many rows of so many
/// columns, in the middle of what stands before and after them.
macro_rules! many {
    ($name:ident, $columns:literal, $before:literal, $after:literal) => {
        pub(crate) const fn $name(dialect: $crate::dialect::Dialect, rows: usize) -> &'static str {
            macro_rules! sized {
                ($rows:literal, $marks:expr) => {{
                    const LENGTH: usize = $crate::many::length($before, $rows, $columns, $after, $marks);
                    const BYTES: [u8; LENGTH] = $crate::many::text($before, $rows, $columns, $after, $marks);
                    const TEXT: &str = match std::str::from_utf8(&BYTES) {
                        Ok(text) => text,
                        Err(_) => panic!("a statement is text"),
                    };
                    TEXT
                }};
                ($rows:literal) => {
                    match dialect {
                        $crate::dialect::Dialect::Sqlite => sized!($rows, $crate::many::Marks::Plain),
                        $crate::dialect::Dialect::Postgres => sized!($rows, $crate::many::Marks::Numbered),
                    }
                };
            }
            match rows {
                1 => sized!(1),
                2 => sized!(2),
                4 => sized!(4),
                8 => sized!(8),
                16 => sized!(16),
                32 => sized!(32),
                64 => sized!(64),
                _ => panic!("bundles have the sizes above"),
            }
        }
    };
}
pub(crate) use many;

/// Defines a function like those: the texts of two of them behind each other, for one visit. SQLite alone takes them so;
/// what is bound goes to the placeholders in their order.
macro_rules! together {
    ($name:ident, $first:ident, $second:ident) => {
        pub(crate) const fn $name(dialect: $crate::dialect::Dialect, rows: usize) -> &'static str {
            macro_rules! sized {
                ($size:literal) => {{
                    const FIRST: &str = $first($crate::dialect::Dialect::Sqlite, $size);
                    const SECOND: &str = $second($crate::dialect::Dialect::Sqlite, $size);
                    const BYTES: [u8; FIRST.len() + SECOND.len() + 2] = $crate::many::behind(FIRST, SECOND);
                    const TEXT: &str = match std::str::from_utf8(&BYTES) {
                        Ok(text) => text,
                        Err(_) => panic!("statements are text"),
                    };
                    TEXT
                }};
            }
            assert!(matches!(dialect, $crate::dialect::Dialect::Sqlite));
            match rows {
                1 => sized!(1),
                2 => sized!(2),
                4 => sized!(4),
                8 => sized!(8),
                16 => sized!(16),
                32 => sized!(32),
                64 => sized!(64),
                _ => panic!("bundles have the sizes above"),
            }
        }
    };
}
pub(crate) use together;

pub(crate) const fn behind<const N: usize>(first: &str, second: &str) -> [u8; N] {
    let mut out = [b' '; N];
    let at = copy(&mut out, 0, first);
    let at = copy(&mut out, at, "; ");
    let at = copy(&mut out, at, second);
    assert!(at == N);
    out
}

/// How a placeholder is written. SQLite looks for each numbered one in a list of all of them, which takes most of the time
/// where there are a thousand.
#[derive(Clone, Copy)]
pub(crate) enum Marks {
    Plain,
    Numbered,
}

pub(crate) const fn length(before: &str, rows: usize, columns: usize, after: &str, marks: Marks) -> usize {
    let mut length = before.len() + after.len();
    let mut n = 1;
    while n <= rows * columns {
        // The mark, its digits, and a comma or a bracket behind them.
        length += 2 + digits(n, marks);
        n += 1;
    }
    // A bracket opens each row, and a comma stands between two.
    length + 2 * rows - 1
}

pub(crate) const fn text<const N: usize>(
    before: &str,
    rows: usize,
    columns: usize,
    after: &str,
    marks: Marks,
) -> [u8; N] {
    let mut out = [b' '; N];
    let mut at = copy(&mut out, 0, before);
    let mut n = 1;
    while n <= rows * columns {
        if n % columns == 1 || columns == 1 {
            if n > 1 {
                out[at] = b',';
                at += 1;
            }
            out[at] = b'(';
            at += 1;
        }
        out[at] = match marks {
            Marks::Plain => b'?',
            Marks::Numbered => b'$',
        };
        at += 1;
        let mut left = digits(n, marks);
        let mut number = n;
        while left > 0 {
            left -= 1;
            out[at + left] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        at += digits(n, marks);
        out[at] = if n % columns == 0 { b')' } else { b',' };
        at += 1;
        n += 1;
    }
    at = copy(&mut out, at, after);
    assert!(at == N);
    out
}

const fn copy<const N: usize>(out: &mut [u8; N], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut n = 0;
    while n < bytes.len() {
        out[at + n] = bytes[n];
        n += 1;
    }
    at + n
}

const fn digits(n: usize, marks: Marks) -> usize {
    match marks {
        Marks::Plain => 0,
        Marks::Numbered => n.ilog10() as usize + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect::{Postgres, Sqlite};

    many!(pairs, 2, "INSERT INTO a (b, c) VALUES ", " ON CONFLICT DO NOTHING");
    many!(singles, 1, "VALUES ", "");
    together!(both, pairs, singles);

    #[test]
    fn every_row_has_its_own_numbers() {
        assert_eq!(pairs(Postgres, 1), "INSERT INTO a (b, c) VALUES ($1,$2) ON CONFLICT DO NOTHING");
        assert_eq!(pairs(Postgres, 2), "INSERT INTO a (b, c) VALUES ($1,$2),($3,$4) ON CONFLICT DO NOTHING");
        assert_eq!(pairs(Sqlite, 2), "INSERT INTO a (b, c) VALUES (?,?),(?,?) ON CONFLICT DO NOTHING");
        assert!(pairs(Postgres, 8).contains("($9,$10),($11,$12)"), "{}", pairs(Postgres, 8));
        assert!(pairs(Postgres, 64).ends_with(",($127,$128) ON CONFLICT DO NOTHING"));
        assert_eq!(singles(Postgres, 2), "VALUES ($1),($2)");
        assert_eq!(singles(Sqlite, 4), "VALUES (?),(?),(?),(?)");
        let expected = "INSERT INTO a (b, c) VALUES (?,?),(?,?) ON CONFLICT DO NOTHING; VALUES (?),(?)";
        assert_eq!(both(Sqlite, 2), expected);
    }

    #[test]
    fn any_number_of_rows_is_cut_into_sizes_that_there_are() {
        for count in 0..300 {
            let rows: Vec<usize> = (0..count).collect();
            let cut: Vec<&[usize]> = bundles(&rows).collect();
            assert_eq!(cut.concat(), rows);
            assert!(cut.len() <= count / LARGEST + 6);
            cut.iter().for_each(|bundle| assert!(!pairs(Sqlite, bundle.len()).is_empty()));
        }
    }
}
