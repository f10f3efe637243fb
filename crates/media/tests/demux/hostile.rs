//! Input that nobody should send: cut, corrupted, random, and cut into any chunks.

use std::io::Cursor;

use crate::common::{Demuxed, demux, fixture};
use bytes::Bytes;
use media::mp4::Mp4File;
use proptest::prelude::*;

const STREAMS: [&str; 5] =
    ["h264_aac_frag.mp4", "hevc_opus_frag.mp4", "av1_opus_frag.mp4", "h264_aac.ts", "hevc_opus.ts"];
const FILES: [&str; 5] = [
    "h264_aac.mp4",
    "h264_aac_faststart.mp4",
    "h264_aac_frag.mp4",
    "vp9_opus.mp4",
    "av1_opus_frag.mp4",
];

/// Reads a file to its end or its first error; says how many frames came.
fn read_file(data: Bytes) -> Result<usize, media::Error> {
    let mut file = Mp4File::open(Cursor::new(data))?;
    let mut frames = 0;
    while file.next_frame()?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

fn corrupted(name: &str, hits: &[(prop::sample::Index, u8)]) -> Bytes {
    let mut data = fixture(name).to_vec();
    for (at, value) in hits {
        let at = at.index(data.len());
        data[at] = *value;
    }
    data.into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_the_bytes_are_cut_changes_nothing(
        stream in prop::sample::select(&STREAMS[..]),
        chunks in prop::collection::vec(1usize..2000, 1..8),
    ) {
        let data = fixture(stream);
        let whole: Demuxed = demux(&data, &[]).unwrap();
        prop_assert_eq!(demux(&data, &chunks).unwrap(), whole);
    }

    #[test]
    fn corrupted_streams_end_in_frames_or_an_error(
        stream in prop::sample::select(&STREAMS[..]),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let data = corrupted(stream, &hits);
        if let Ok(out) = demux(&data, &[700]) {
            let bytes: usize = out.frames.iter().map(|frame| frame.payload.len()).sum();
            prop_assert!(bytes <= data.len(), "more media than input");
        }
    }

    #[test]
    fn corrupted_files_end_in_frames_or_an_error(
        file in prop::sample::select(&FILES[..]),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let _ = read_file(corrupted(file, &hits));
    }

    #[test]
    fn truncated_files_end_in_frames_or_an_error(
        file in prop::sample::select(&FILES[..]),
        cut in any::<prop::sample::Index>(),
    ) {
        let data = fixture(file);
        let cut = data.slice(..cut.index(data.len()));
        let _ = read_file(cut.clone());
        let _ = demux(&cut, &[333]);
    }

    #[test]
    fn random_bytes_are_no_media(data in prop::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert!(demux(&data.clone().into(), &[100]).is_err());
        prop_assert!(read_file(data.into()).is_err());
    }

    #[test]
    fn random_bytes_behind_a_good_start_end_in_an_error_or_nothing(
        stream in prop::sample::select(&STREAMS[..]),
        start in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 1..3000),
    ) {
        let good = fixture(stream);
        let data = [&good[..start.index(good.len())], &tail].concat();
        let _ = demux(&data.into(), &[512]);
    }
}

#[test]
fn a_broken_box_is_named_with_its_place() {
    let mut data = fixture("h264_aac_frag.mp4").to_vec();
    let at = data.windows(4).position(|kind| kind == b"trun").expect("a trun") - 4;
    data[at..at + 4].copy_from_slice(&[0, 0xff, 0, 0]);
    let error = demux(&data.into(), &[]).unwrap_err().to_string();
    assert!(error.contains("`trun`") && error.contains(&format!("byte {at}")), "{error}");
}

#[test]
fn a_box_too_large_to_be_true_is_refused_before_its_bytes_come() {
    let mut data = fixture("h264_aac_frag.mp4").to_vec();
    let at = data.windows(4).position(|kind| kind == b"moof").expect("a moof") - 4;
    data[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    data.truncate(at + 8);
    let error = demux(&data.into(), &[]).unwrap_err().to_string();
    assert!(error.contains("`moof`") && error.contains("2147483647 bytes"), "{error}");
}

#[test]
fn a_file_cut_off_in_its_media_gives_what_is_there_and_then_says_so() {
    let data = fixture("h264_aac_faststart.mp4");
    let cut = data.slice(..data.len() - 500);
    let mut file = Mp4File::open(Cursor::new(cut)).unwrap();
    let mut frames = 0;
    let error = loop {
        match file.next_frame() {
            Ok(Some(_)) => frames += 1,
            Ok(None) => panic!("the end of a file that is cut off"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(frames > 10, "{frames}");
    assert!(error.contains("beyond the end of the file"), "{error}");
}
