//! NAL units: finding them in both framings, and undoing emulation prevention.

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros.
pub fn annex_b(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = find_start_code(data, 0).map(|at| at + 3);
    std::iter::from_fn(move || {
        loop {
            let begin = start?;
            let next = find_start_code(data, begin);
            start = next.map(|at| at + 3);
            let mut nal = &data[begin..next.unwrap_or(data.len())];
            while let [head @ .., 0] = nal {
                nal = head;
            }
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

/// Where the next `00 00 01` at or after `from` starts.
pub fn find_start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + 3 <= data.len() {
        match data[at + 2] {
            // No start code can hold this byte, or end before it.
            2.. => at += 3,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            1 => at += 3,
            0 => at += 1,
        }
    }
    None
}

/// The NAL units of a sample whose units are prefixed with their length in `length_size` bytes.
/// Ends at the first prefix that promises more than there is.
pub fn length_prefixed(data: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (prefix, tail) = rest.split_at_checked(length_size)?;
        let length = prefix.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let (nal, tail) = tail.split_at_checked(length)?;
        rest = tail;
        (length_size > 0).then_some(nal)
    })
    .filter(|nal| !nal.is_empty())
}

/// The payload of a NAL unit (after `header` bytes) with emulation prevention bytes taken out;
/// at most `limit` bytes, which is plenty for a parameter set.
pub(crate) fn unescape(nal: &[u8], header: usize, limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len().min(limit));
    let mut zeros = 0;
    for &byte in nal.iter().skip(header) {
        if out.len() == limit {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_give_the_same_units() {
        let stream = [0, 0, 0, 1, 9, 16, 0, 0, 1, 0x67, 1, 0, 0, 3, 1, 0, 0, 0, 1, 0x65, 5, 0];
        let units: Vec<_> = annex_b(&stream).collect();
        assert_eq!(units, [&[9u8, 16][..], &[0x67, 1, 0, 0, 3, 1], &[0x65, 5]]);
        let prefixed: Vec<u8> = units
            .iter()
            .flat_map(|nal| {
                [0, 0, 0, u8::try_from(nal.len()).unwrap_or(0)]
                    .into_iter()
                    .chain(nal.iter().copied())
            })
            .collect();
        assert_eq!(length_prefixed(&prefixed, 4).collect::<Vec<_>>(), units);
    }

    #[test]
    fn lengths_past_the_end_stop_the_walk() {
        assert_eq!(length_prefixed(&[0, 0, 0, 9, 1], 4).count(), 0);
        assert_eq!(length_prefixed(&[0, 0], 4).count(), 0);
        assert_eq!(length_prefixed(&[1, 2, 3], 0).count(), 0);
    }

    #[test]
    fn emulation_prevention_is_undone() {
        assert_eq!(unescape(&[0x67, 0, 0, 3, 1, 0, 0, 3, 0], 1, 64), [0, 0, 1, 0, 0, 0]);
        assert_eq!(unescape(&[1, 2, 3, 4], 0, 2), [1, 2]);
    }
}
