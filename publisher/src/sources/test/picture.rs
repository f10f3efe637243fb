//! Draws the test picture straight into Y, U and V planes, in runs of whole rows, so that even a
//! debug build keeps up.

use openh264::formats::YUVSource;

use super::{font, mark};

const BLACK: Colour = Colour { y: 16, u: 128, v: 128 };
const WHITE: Colour = Colour { y: 235, u: 128, v: 128 };
const AMBER: Colour = Colour { y: 168, u: 58, v: 166 };

/// For how long after each full second the flash shows and the beep sounds.
pub(super) const FLASH_US: u64 = 80_000;

/// A BT.709 colour in studio range.
#[derive(Debug, Clone, Copy)]
struct Colour {
    y: u8,
    u: u8,
    v: u8,
}

/// A picture in I420, and how it is drawn.
#[derive(Debug)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    planes: Planes,
    /// What does not move, drawn once.
    background: Planes,
    noise: Noise,
}

/// Cheap random numbers (xorshift); the same run of them in every picture.
#[derive(Debug)]
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[derive(Debug, Clone)]
struct Planes {
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Picture {
    /// A picture of an even size.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let planes = Planes {
            y: vec![BLACK.y; width * height],
            u: vec![BLACK.u; width * height / 4],
            v: vec![BLACK.v; width * height / 4],
        };
        let noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut picture = Self { width, height, background: planes.clone(), planes, noise };
        picture.draw_background();
        picture.background = picture.planes.clone();
        picture
    }

    /// Draws all but the machine-readable lines: the scene at a time of day, for frame `number`.
    pub(super) fn draw_scene(&mut self, unix_us: u64, number: u64) {
        self.planes.y.copy_from_slice(&self.background.y);
        self.planes.u.copy_from_slice(&self.background.u);
        self.planes.v.copy_from_slice(&self.background.v);
        self.draw_static();
        self.draw_ball(unix_us);
        let top = self.scene_top();
        let scene = self.height - top;
        let dot = even(self.width / 96).max(2);
        let clock = clock_text(unix_us);
        self.draw_text(&clock, top + scene * 5 / 16, dot, WHITE);
        let caption = format!("FRAME {number}");
        self.draw_text(&caption, top + scene * 11 / 16, even(dot / 2).max(2), AMBER);
        if unix_us % 1_000_000 < FLASH_US {
            let side = even((self.height / 8).min(self.width / 8));
            self.fill(self.width - side - side / 2, top + side / 2, side, side, WHITE);
        }
    }

    /// Stamps the machine-readable lines: the very last thing before the encoder gets the picture.
    pub(super) fn stamp(&mut self, capture_unix_us: u64, number: u64) {
        for (line, bits) in mark::lines(capture_unix_us, number).into_iter().enumerate() {
            let (top, bottom) = (mark::row(line, self.width), mark::row(line + 1, self.width));
            let first = top * self.width;
            for cell in 0..mark::CELLS {
                let bit = bits >> (mark::CELLS - 1 - cell) & 1;
                let columns = mark::column(cell, self.width)..mark::column(cell + 1, self.width);
                let luma = if bit == 1 { WHITE.y } else { BLACK.y };
                self.planes.y[first..][columns].fill(luma);
            }
            for row in top + 1..bottom {
                self.planes.y.copy_within(first..first + self.width, row * self.width);
            }
        }
    }

    /// The first row below the machine-readable lines, even so that chroma rows are not shared.
    fn scene_top(&self) -> usize {
        mark::row(mark::LINES, self.width).next_multiple_of(2)
    }

    /// Colour bars over a slow gradient, and a grid of thin lines.
    fn draw_background(&mut self) {
        const BARS: [Colour; 7] = [
            Colour { y: 180, u: 128, v: 128 },
            Colour { y: 168, u: 44, v: 136 },
            Colour { y: 145, u: 147, v: 44 },
            Colour { y: 133, u: 63, v: 52 },
            Colour { y: 63, u: 193, v: 204 },
            Colour { y: 51, u: 109, v: 212 },
            Colour { y: 28, u: 212, v: 120 },
        ];
        let (width, height, top) = (self.width, self.height, self.scene_top());
        let bars_top = even(height - height / 8);
        for row in top..bars_top {
            let down = (row - top) * 96 / (bars_top - top);
            let luma = &mut self.planes.y[row * width..][..width];
            for (column, y) in luma.iter_mut().enumerate() {
                *y = (24 + down / 2 + column * 48 / width) as u8;
            }
            if row % 2 == 0 {
                let chroma = row / 2 * (width / 2);
                for column in 0..width / 2 {
                    self.planes.u[chroma + column] = (150 - down / 4 + column * 20 / width) as u8;
                    self.planes.v[chroma + column] = (112 + down / 6) as u8;
                }
            }
        }
        for (bar, colour) in BARS.into_iter().enumerate() {
            let (left, right) = (even(bar * width / 7), even((bar + 1) * width / 7));
            self.fill(left, bars_top, right - left, height - bars_top, colour);
        }
    }

    /// A corner of television static. It cannot be predicted, so the encoder always has use for
    /// the bitrate it was given.
    fn draw_static(&mut self) {
        let (width, height) = (self.width / 56 * 8, even(self.height / 8));
        let bottom = even(self.height - self.height / 8);
        for row in bottom - height..bottom {
            let luma = &mut self.planes.y[row * self.width..][..width];
            for dots in luma.chunks_exact_mut(8) {
                let random = self.noise.next().to_le_bytes();
                for (dot, random) in dots.iter_mut().zip(random) {
                    *dot = 48 + random / 2;
                }
            }
        }
        for row in (bottom - height) / 2..bottom / 2 {
            let chroma = row * (self.width / 2);
            self.planes.u[chroma..][..width / 2].fill(BLACK.u);
            self.planes.v[chroma..][..width / 2].fill(BLACK.v);
        }
    }

    /// A ball that swings from side to side every four seconds and bounces every two.
    fn draw_ball(&mut self, unix_us: u64) {
        let radius = even((self.height / 12).min(self.width / 6));
        let top = self.scene_top() + radius;
        let floor = (self.height - self.height / 8).saturating_sub(radius);
        let swing = triangle(unix_us, 4_000_000);
        let x = radius as f64 + swing * (self.width - 2 * radius) as f64;
        let fall = triangle(unix_us, 2_000_000) * 2.0 - 1.0;
        let y = top as f64 + fall * fall * (floor - top) as f64;
        let (x, y, radius) = (x as isize, y as isize, radius as isize);
        for row in -radius..=radius {
            let half = ((radius * radius - row * row) as f64).sqrt() as isize;
            let left = (x - half).max(0) as usize;
            let right = (x + half).max(0) as usize;
            self.span((y + row).max(0) as usize, left, right, AMBER);
        }
    }

    /// One row of a filled shape.
    fn span(&mut self, row: usize, left: usize, right: usize, colour: Colour) {
        let (left, right) = (left.min(self.width), right.min(self.width));
        if row >= self.height || left >= right {
            return;
        }
        self.planes.y[row * self.width..][left..right].fill(colour.y);
        if row.is_multiple_of(2) {
            let chroma = row / 2 * (self.width / 2);
            self.planes.u[chroma..][left / 2..right / 2].fill(colour.u);
            self.planes.v[chroma..][left / 2..right / 2].fill(colour.v);
        }
    }

    fn fill(&mut self, left: usize, top: usize, width: usize, height: usize, colour: Colour) {
        for row in top..top + height {
            self.span(row, left, left + width, colour);
        }
    }

    /// Text in the middle, its top at a row, `dot` pixels to a font dot, with a shadow that keeps
    /// it readable on every background.
    fn draw_text(&mut self, text: &str, top: usize, dot: usize, colour: Colour) {
        let advance = (font::COLUMNS + 1) * dot;
        let left = even(self.width.saturating_sub(text.chars().count() * advance) / 2);
        let shift = (dot / 3).next_multiple_of(2);
        for (shift, colour) in [(shift, BLACK), (0, colour)] {
            for (at, character) in text.chars().enumerate() {
                self.draw_glyph(character, left + at * advance + shift, top + shift, dot, colour);
            }
        }
    }

    fn draw_glyph(&mut self, character: char, left: usize, top: usize, dot: usize, colour: Colour) {
        for (row, bits) in font::glyph(character).into_iter().enumerate() {
            for column in 0..font::COLUMNS {
                if bits >> (font::COLUMNS - 1 - column) & 1 == 1 {
                    self.fill(left + column * dot, top + row * dot, dot, dot, colour);
                }
            }
        }
    }
}

/// The even number at or below: chroma samples are two pixels wide and high.
fn even(number: usize) -> usize {
    number & !1
}

/// From 0 to 1 and back over a period.
fn triangle(unix_us: u64, period_us: u64) -> f64 {
    let phase = (unix_us % period_us) as f64 / period_us as f64 * 2.0;
    if phase < 1.0 { phase } else { 2.0 - phase }
}

/// The time of day in UTC.
fn clock_text(unix_us: u64) -> String {
    let millis = unix_us / 1000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.planes.y
    }

    fn u(&self) -> &[u8] {
        &self.planes.u
    }

    fn v(&self) -> &[u8] {
        &self.planes.v
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads the lines as CONTRACT.md tells a reader to: the brightness at each cell's centre.
    pub(crate) fn read_mark(luma: &[u8], width: usize) -> [u64; mark::LINES] {
        std::array::from_fn(|line| {
            let y = (line as f64 + 0.5) * width as f64 / 40.0;
            (0..mark::CELLS).fold(0, |bits, cell| {
                let x = (cell as f64 + 0.5) * width as f64 / 64.0;
                let brightness = luma[y as usize * width + x as usize];
                bits << 1 | u64::from(brightness > 127)
            })
        })
    }

    #[test]
    fn the_lines_read_back_at_every_size() {
        for (width, height) in [(1280, 720), (320, 180), (1366, 768), (1920, 1080), (640, 2160)] {
            let mut picture = Picture::new(width, height);
            let (time, number) = (1_767_225_600_123_456, 48_271_931);
            picture.draw_scene(time, number);
            picture.stamp(time, number);
            assert_eq!(read_mark(picture.y(), width), mark::lines(time, number));
        }
    }

    #[test]
    fn the_scene_moves_and_flashes_on_the_second() {
        let mut picture = Picture::new(640, 360);
        let second = 1_767_225_600_000_000;
        let bright = |picture: &Picture| picture.y().iter().filter(|y| **y == WHITE.y).count();
        picture.draw_scene(second, 1);
        let (flash, first) = (bright(&picture), picture.y().to_vec());
        picture.draw_scene(second + 500_000, 2);
        assert!(bright(&picture) + 1000 < flash);
        assert_ne!(picture.y(), first);
    }

    #[test]
    fn the_clock_is_the_time_of_day() {
        assert_eq!(clock_text(1_767_225_600_123_999), "00:00:00.123");
        assert_eq!(clock_text(86_399_999_000), "23:59:59.999");
    }

    #[test]
    fn every_size_that_is_accepted_can_be_drawn() {
        for (width, height) in [(320, 180), (3840, 960), (320, 2160), (3840, 2160)] {
            let mut picture = Picture::new(width, height);
            for step in 0..8 {
                picture.draw_scene(step * 437_000, u64::MAX);
            }
        }
    }
}
