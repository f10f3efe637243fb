//! The machine-readable lines of the test picture, as CONTRACT.md fixes them: capture time, frame
//! number and checksum in black and white cells, most significant bit first.

/// Cells in a line.
pub(super) const CELLS: usize = 64;
/// Lines of cells.
pub(super) const LINES: usize = 2;

/// The two lines of a frame.
pub(super) fn lines(capture_unix_us: u64, frame_number: u64) -> [u64; LINES] {
    let number = frame_number & 0xffff_ffff_ffff;
    let bytes = number.to_be_bytes();
    [capture_unix_us, number << 16 | u64::from(crc16(&bytes[2..]))]
}

/// CRC-16/CCITT-FALSE: polynomial 0x1021, from 0xffff, not reflected.
fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 }
        })
    })
}

/// Where a cell's column begins in a picture of some width; of `CELLS`, where the last ends.
pub(super) fn column(cell: usize, width: usize) -> usize {
    cell * width / CELLS
}

/// Where a line's rows begin in a picture of some width; of `LINES`, where the last ends.
pub(super) fn row(line: usize, width: usize) -> usize {
    line * width / 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_named() {
        assert_eq!(crc16(b"123456789"), 0x29b1);
        let [time, number] = lines(0x0123_4567_89ab_cdef, 7);
        assert_eq!(time, 0x0123_4567_89ab_cdef);
        assert_eq!(number >> 16, 7);
        assert_eq!(number as u16, crc16(&[0, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn cells_are_20_by_32_at_1280() {
        assert_eq!((column(1, 1280), row(1, 1280)), (20, 32));
        assert_eq!(column(CELLS, 1366), 1366);
    }
}
