//! Text from peers, made safe to show.

/// Longest text that [`sanitize`] returns, in characters.
pub const MAX_TEXT_CHARS: usize = 256;

/// Makes text from a peer safe for a terminal: what could move the cursor, change colours, reorder
/// or hide other text becomes `U+FFFD`, one for one, so that two names that differ only in such
/// characters are seen to be odd. Longer texts than [`MAX_TEXT_CHARS`] are cut and end in `…`.
///
/// Idempotent.
pub fn sanitize(text: &str) -> String {
    let mut chars =
        text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c });
    let mut safe: String = chars.by_ref().take(MAX_TEXT_CHARS).collect();
    if chars.next().is_some() {
        safe.pop();
        safe.push('…');
    }
    safe
}

/// Whether a character does anything else than show itself in place.
fn is_unsafe(c: char) -> bool {
    // C0, C1 and DEL: escape sequences begin with one of them.
    c.is_control()
        || matches!(c,
            // Soft hyphen, grapheme joiner, fillers: nothing to see.
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
            // Mongolian selectors, zero width characters and marks of direction.
            | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            // Line and paragraph separator; embeddings, overrides and isolates.
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Variation selectors, byte order mark, annotations, tags.
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["live/cam1", "edge-1.example.org:4433", "Überwachung/東京", "[::1]:4433", ""]
        {
            assert_eq!(sanitize(name), name);
        }
    }

    #[test]
    fn escape_sequences_lose_their_beginning() {
        assert_eq!(
            sanitize("\x1b[2Jcam\r\n\u{9b}31m\x7f"),
            "\u{fffd}[2Jcam\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}"
        );
    }

    #[test]
    fn direction_overrides_and_invisible_characters_are_shown_as_such() {
        assert_eq!(sanitize("a\u{202e}gpj.b"), "a\u{fffd}gpj.b");
        assert_eq!(sanitize("ca\u{200b}m"), "ca\u{fffd}m");
        assert_eq!(sanitize("cam\u{e0041}"), "cam\u{fffd}");
    }

    #[test]
    fn long_text_is_cut_visibly() {
        assert_eq!(sanitize(&"x".repeat(MAX_TEXT_CHARS)), "x".repeat(MAX_TEXT_CHARS));
        let cut = sanitize(&"é".repeat(100_000));
        assert_eq!(cut.chars().count(), MAX_TEXT_CHARS);
        assert!(cut.ends_with("é…"));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_or_unbounded_ever_comes_out(text in any::<String>()) {
            let safe = sanitize(&text);
            prop_assert!(!safe.chars().any(is_unsafe));
            prop_assert!(safe.chars().count() <= MAX_TEXT_CHARS);
            prop_assert_eq!(sanitize(&safe), safe);
        }
    }
}
