//! Text of others on a terminal.

use std::borrow::Cow;

/// Text as it may be written to a terminal, whoever it came from: what would command the terminal, or turn the order in
/// which it shows letters, stands there as an escape. Line ends and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    without(text, |c| !matches!(c, '\n' | '\t'))
}

/// The same for text that is a part of one line: a line end in it cannot begin another.
pub fn plain_in_line(text: &str) -> Cow<'_, str> {
    without(text, |_| true)
}

fn without(text: &str, also: impl Fn(char) -> bool) -> Cow<'_, str> {
    let commands = |c: char| is_order(c) || (c.is_control() && also(c));
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !commands(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // As in JSON, so that JSON stays what it is.
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Whether a character changes the direction of writing of those after it (Unicode Standard Annex 9).
fn is_order(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_shown_and_not_obeyed() {
        let said = "a\u{1b}]0;owned\u{7}b\rc\u{9b}2Jd\u{202e}e\u{7f}";
        let shown = r"a\u001b]0;owned\u0007b\rc\u009b2Jd\u202ee\u007f";
        assert_eq!((plain(said), plain_in_line(said)), (shown.into(), shown.into()));
    }

    #[test]
    fn lines_of_ours_stay_and_those_of_others_begin_none() {
        let said = "pump: on\n\tgate: shut";
        assert_eq!(plain(said), said);
        assert_eq!(plain_in_line(said), r"pump: on\n\tgate: shut");
    }

    #[test]
    fn what_is_only_text_is_not_copied() {
        assert!(matches!(plain_in_line("Pumpe für Öl, 泵"), Cow::Borrowed(_)));
    }
}
