//! Styles: how long and how thorough answers should be. What a style asks for is told last, after every other instruction.

use crate::Wishes;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// As the model answers by itself.
    #[default]
    Standard,
    Brief,
    Extended,
}

impl Style {
    pub const ALL: [Style; 3] = [Style::Standard, Style::Brief, Style::Extended];

    pub fn as_str(self) -> &'static str {
        match self {
            Style::Standard => "standard",
            Style::Brief => "brief",
            Style::Extended => "extended",
        }
    }

    pub fn parse(text: &str) -> Option<Style> {
        Style::ALL.into_iter().find(|style| style.as_str() == text)
    }

    /// What a model is told; nothing for the standard one.
    pub fn instruction(self) -> &'static str {
        match self {
            Style::Standard => "",
            Style::Brief => include_str!("../../../prompts/style-brief.md"),
            Style::Extended => include_str!("../../../prompts/style-extended.md"),
        }
        .trim_ascii()
    }

    /// What it wishes where nobody said anything else.
    pub fn wishes(self) -> Wishes {
        match self {
            Style::Standard => Wishes::default(),
            Style::Brief => Wishes { max_output: Some(256), temperature: Some(0.7) },
            Style::Extended => Wishes { max_output: Some(768), temperature: Some(1.1) },
        }
    }

    /// An instruction with that of the style behind it.
    pub fn told_after(self, instruction: &str) -> String {
        let parts = [instruction.trim(), self.instruction()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_read_as_they_are_written() {
        for style in Style::ALL {
            assert_eq!(Style::parse(style.as_str()), Some(style));
        }
        assert_eq!(Style::parse("Brief"), None);
    }

    #[test]
    fn a_style_is_told_last_and_the_standard_one_says_nothing() {
        assert_eq!(Style::Standard.told_after(" Be kind.\n"), "Be kind.");
        assert_eq!(Style::Standard.told_after(""), "");
        let told = Style::Brief.told_after("Be kind.");
        assert!(told.starts_with("Be kind.\n\nAnswer briefly"), "{told}");
        assert_eq!(Style::Extended.told_after(""), Style::Extended.instruction());
    }
}
