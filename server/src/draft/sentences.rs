//! Sentences of a section and how sure the model was of each: the geometric mean of its tokens'
//! probabilities.

use cloister_proto::v1;

use super::EngineError;
use super::text::TextLayout;

/// Decodes one section.
pub(crate) fn of_section(
    layout: &TextLayout,
    name: &str,
    tokens: &[u32],
    log_probabilities: &[f32],
) -> Result<(String, Vec<v1::SentenceScore>), EngineError> {
    // Where each token ends in the decoded text: a token may hold part of a word or of a character.
    let mut ends = Vec::with_capacity(tokens.len());
    for count in 1..=tokens.len() {
        ends.push(
            layout
                .decode(tokens.get(..count).unwrap_or_default())?
                .len(),
        );
    }
    let text = layout.decode(tokens)?;
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in sentence_ends(&text) {
        let sentence = text.get(start..end).unwrap_or_default().trim();
        let inside = ends
            .iter()
            .zip(log_probabilities)
            .filter(|&(&token_end, _)| token_end > start && token_end <= end)
            .map(|(_, &log_probability)| log_probability);
        let (sum, count) = inside.fold((0.0_f32, 0_u32), |(sum, count), value| {
            (sum + value, count + 1)
        });
        if !sentence.is_empty() {
            sentences.push(v1::SentenceScore {
                section: name.to_owned(),
                text: sentence.to_owned(),
                confidence: if count == 0 {
                    0.0
                } else {
                    (sum / count as f32).exp().clamp(0.0, 1.0)
                },
            });
        }
        start = end;
    }
    Ok((text.trim().to_owned(), sentences))
}

/// Byte offsets after each sentence: a full stop at the end or before a space, and the text's end.
pub(crate) fn sentence_ends(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut ends: Vec<usize> = (0..bytes.len())
        .filter(|&at| {
            matches!(bytes.get(at), Some(b'.' | b'!' | b'?'))
                && bytes.get(at + 1).is_none_or(|&next| next == b' ')
        })
        .map(|at| at + 1)
        .collect();
    if ends.last() != Some(&text.len()) {
        ends.push(text.len());
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::sentence_ends;

    #[test]
    fn a_number_with_a_point_is_no_sentence_end() {
        assert_eq!(sentence_ends("Ratio 0.45. Clear."), [11, 18]);
        assert_eq!(sentence_ends("No end"), [6]);
    }
}
