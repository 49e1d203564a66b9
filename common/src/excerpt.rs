//! Texts from elsewhere, fit to be shown: what disturbs a terminal or a log is escaped, and a long one is cut.

/// How much of a text a message quotes, in characters.
const CHARACTERS_MAX: usize = 60;

/// The start of a text, without white space at its end.
pub fn excerpt(text: &str) -> String {
    excerpt_to(text, CHARACTERS_MAX)
}

/// The same, up to this many characters.
pub fn excerpt_to(text: &str, characters_max: usize) -> String {
    let mut characters = text.trim_end().chars();
    let mut start = String::new();
    characters.by_ref().take(characters_max).for_each(|character| push_visible(&mut start, character));
    if characters.next().is_some() {
        start.push('…');
    }
    start
}

/// A whole text. Everything but control characters is left as it is, quotes included; so are line feeds and tabs.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            _ => push_visible(&mut shown, character),
        }
    }
    shown
}

/// Control characters of all planes: a terminal obeys U+009B as it obeys ESC and `[`.
fn push_visible(text: &mut String, character: char) {
    if character.is_control() {
        text.extend(character.escape_default());
    } else {
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_cannot_disturb_a_terminal() {
        let check = |text: &str, expect: &str| assert_eq!(excerpt(text), expect);
        check("a \"b\"\t\x1b[0m \r\n", "a \"b\"\\t\\u{1b}[0m");
        check("a\u{9b}2J", "a\\u{9b}2J");
        check(&"ä".repeat(61), &format!("{}…", "ä".repeat(60)));
    }

    #[test]
    fn a_whole_text_keeps_its_lines() {
        assert_eq!(visible("a\tb\n\x1b]0;c\x07\r\n"), "a\tb\n\\u{1b}]0;c\\u{7}\\r\n");
    }
}
