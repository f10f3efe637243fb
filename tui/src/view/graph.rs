//! Values over time as columns of blocks.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::theme::DIM;

const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const EIGHTHS_ACROSS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// Draws one column for each value, the newest at the right edge. What is not known stays empty; a
/// known 0 is a dim line at the bottom.
pub fn draw(buffer: &mut Buffer, area: Rect, values: &[Option<f64>], top: f64, style: Style) {
    let area = area.intersection(buffer.area);
    let skipped = values.len().saturating_sub(usize::from(area.width));
    let shown = &values[skipped..];
    let left = area.right() - shown.len() as u16;
    for (x, value) in (left..).zip(shown) {
        let Some(value) = value else { continue };
        let full = f64::from(area.height) * 8.0;
        let eighths = if top > 0.0 { (value / top * full).round().clamp(0.0, full) } else { 0.0 };
        // What is more than nothing is seen.
        let mut eighths = if *value > 0.0 { eighths.max(1.0) } else { 0.0 } as usize;
        if eighths == 0 && area.height > 0 {
            buffer[(x, area.bottom() - 1)].set_symbol(EIGHTHS[1]).set_style(DIM);
        }
        for y in (area.top()..area.bottom()).rev() {
            if eighths == 0 {
                break;
            }
            let here = eighths.min(8);
            eighths -= here;
            buffer[(x, y)].set_symbol(EIGHTHS[here]).set_style(style);
        }
    }
}

/// A bar from the left, `share` (0 to 1) of `width` cells long; more than nothing is seen.
pub fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    format!("{}{}", EIGHTHS[8].repeat(eighths / 8), EIGHTHS_ACROSS[eighths % 8])
}

/// The top of a scale that holds all values: 1, 2 or 5 times a power of ten, so that it changes
/// seldom and reads well.
pub fn scale(values: &[Option<f64>]) -> f64 {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let power = 10f64.powi(most.log10().floor() as i32);
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|step| step * power)
        .find(|top| most <= *top)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[Option<f64>], width: u16, height: u16) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw(&mut buffer, Rect::new(0, 0, width, height), values, 8.0, Style::new());
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    #[test]
    fn unknown_is_empty_and_zero_is_a_line() {
        assert_eq!(drawn(&[None, Some(0.0), Some(4.0), Some(8.0), Some(0.001)], 5, 1), [" ▁▄█▁"]);
    }

    #[test]
    fn columns_grow_over_lines_and_the_newest_is_at_the_right() {
        assert_eq!(drawn(&[Some(1.0), Some(8.0), Some(5.0)], 2, 2), ["█▂", "██"]);
        assert_eq!(drawn(&[Some(8.0)], 3, 1), ["  █"]);
    }

    #[test]
    fn no_space_is_no_panic() {
        assert!(drawn(&[Some(1.0)], 0, 0).is_empty());
        assert_eq!(drawn(&[Some(f64::MAX)], 1, 1), ["█"]);
    }

    #[test]
    fn bars_have_the_length_of_their_share() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(1e-9, 4), "▏");
        assert_eq!(bar(7.0, 2), "██");
    }

    #[test]
    fn scales_are_round() {
        for (most, top) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (7e6, 1e7), (0.3, 0.5)]
        {
            assert!((scale(&[Some(most), None]) - top).abs() < top * 1e-9, "{most}");
        }
    }
}
