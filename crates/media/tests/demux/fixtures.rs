//! Real files, made by ffmpeg, held against what ffprobe says of them.

use std::io::Cursor;

use crate::common::{Demuxed, Probed, demux, fixture, probed};
use media::mp4::Mp4File;
use media::{Codec, Error, Format, Frame, Kind, Warning, codec};

/// Timestamps may differ by what decimal rounding costs.
const ROUNDING_US: i64 = 1;

fn assert_same(ours: &[Probed], theirs: &[Probed]) {
    assert_eq!(ours.len(), theirs.len(), "number of packets");
    for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let close = |a: i64, b: i64| (a - b).abs() <= ROUNDING_US;
        assert!(
            close(our.pts_us, their.pts_us)
                && close(our.dts_us, their.dts_us)
                && (our.video, our.size, our.keyframe) == (their.video, their.size, their.keyframe),
            "packet {at}: ours {our:?}, theirs {their:?}"
        );
    }
}

fn read_file(name: &str) -> Demuxed {
    let mut file = Mp4File::open(Cursor::new(fixture(name))).expect("an MP4");
    let mut out =
        Demuxed { tracks: file.tracks(), warnings: file.warnings().to_vec(), frames: Vec::new() };
    while let Some(frame) = file.next_frame().expect("a frame") {
        out.frames.push(frame);
    }
    out
}

fn video_format(out: &Demuxed) -> (u32, u32, Option<f64>) {
    match out.track(Kind::Video).format {
        Format::Video { width, height, framerate } => {
            (width, height, framerate.map(|rate| (rate * 10.0).round() / 10.0))
        }
        Format::Audio { .. } => panic!("video with an audio format"),
    }
}

fn codec_strings(out: &Demuxed) -> (&str, &str) {
    (&out.track(Kind::Video).codec_string, &out.track(Kind::Audio).codec_string)
}

#[test]
fn progressive_files_read_alike_with_the_index_last_and_first() {
    for name in ["h264_aac.mp4", "h264_aac_faststart.mp4"] {
        let out = read_file(name);
        assert_same(&out.packets(), &probed(name));
        assert_eq!(codec_strings(&out), ("avc1.64000b", "mp4a.40.2"));
        assert_eq!(video_format(&out), (128, 96, Some(10.0)));
        let audio = out.track(Kind::Audio);
        assert_eq!(audio.format, Format::Audio { sample_rate: 48_000, channels: 1 });
        // LC, 48 kHz, mono.
        assert_eq!(audio.description.as_deref().map(|asc| &asc[..2]), Some(&[0x11, 0x88][..]));
        let avcc = out.track(Kind::Video).description.as_deref().expect("an avcC");
        assert_eq!(avcc[..4], [1, 0x64, 0, 0x0b]);
        assert!(out.frames.is_sorted_by_key(|frame| frame.dts_us), "not in decode order");
    }
}

#[test]
fn a_file_can_be_read_again() {
    for name in ["h264_aac.mp4", "h264_aac_frag.mp4"] {
        let mut file = Mp4File::open(Cursor::new(fixture(name))).expect("an MP4");
        let mut all = || -> Vec<Frame> {
            file.rewind().expect("back at the start");
            std::iter::from_fn(|| file.next_frame().expect("a frame")).collect()
        };
        assert_eq!(all(), all());
    }
}

#[test]
fn fragments_read_alike_from_a_stream_and_from_a_file() {
    for (name, strings) in [
        ("h264_aac_frag.mp4", ("avc1.64000b", "mp4a.40.2")),
        ("hevc_opus_frag.mp4", ("hvc1.1.6.L30.90", "opus")),
        ("av1_opus_frag.mp4", ("av01.0.00M.08", "opus")),
    ] {
        let stream = demux(&fixture(name), &[]).expect(name);
        let file = read_file(name);
        assert_same(&stream.packets(), &probed(name));
        assert_eq!(codec_strings(&stream), strings, "{name}");
        assert_eq!(stream.tracks, file.tracks, "{name}");
        assert_eq!(stream.packets(), file.packets(), "{name}");
        let (width, height, _) = video_format(&stream);
        assert_eq!((width, height), (128, 96), "{name}");
    }
}

#[test]
fn vp9_and_opus_need_no_description() {
    let out = read_file("vp9_opus.mp4");
    assert_same(&out.packets(), &probed("vp9_opus.mp4"));
    assert_eq!(codec_strings(&out), ("vp09.00.10.08", "opus"));
    assert!(out.tracks.iter().all(|track| track.description.is_none()));
    // The codec's own header agrees with the container.
    for frame in out.frames.iter().filter(|frame| frame.track == out.track(Kind::Video).id) {
        assert_eq!(codec::vp9::picture(&frame.payload).keyframe, frame.keyframe);
    }
}

#[test]
fn a_transport_stream_becomes_annex_b_and_raw_aac() {
    let out = demux(&fixture("h264_aac.ts"), &[]).expect("a stream");
    // ffprobe counts the ADTS header, which is taken off here.
    let theirs: Vec<_> = probed("h264_aac.ts")
        .into_iter()
        .map(|packet| Probed { size: packet.size - if packet.video { 0 } else { 7 }, ..packet })
        .collect();
    assert_same(&out.packets(), &theirs);
    assert_eq!(codec_strings(&out), ("avc3.64000b", "mp4a.40.2"));
    assert_eq!(video_format(&out), (128, 96, Some(10.0)));
    assert_eq!(out.track(Kind::Video).description, None);
    assert!(out.track(Kind::Audio).description.is_some());
    for frame in out.frames.iter().filter(|frame| frame.track == out.track(Kind::Video).id) {
        assert!(frame.payload.starts_with(&[0, 0, 0, 1]));
        let types: Vec<_> =
            codec::nal::annex_b(&frame.payload).map(codec::h264::nal_type).collect();
        assert_eq!(types.contains(&codec::h264::NAL_SPS), frame.keyframe, "{types:?}");
    }
}

#[test]
fn a_transport_stream_with_hevc_and_opus_passes() {
    let out = demux(&fixture("hevc_opus.ts"), &[]).expect("a stream");
    let (ours, theirs) = (out.packets(), probed("hevc_opus.ts"));
    // ffprobe's parser counts the first zero of a start code with the frame before.
    let timing = |packets: &[Probed]| -> Vec<Probed> {
        let video = packets.iter().filter(|packet| packet.video);
        video.map(|packet| Probed { size: 0, ..*packet }).collect()
    };
    let total = |packets: &[Probed]| packets.iter().map(|packet| packet.size).sum::<usize>();
    assert_same(&timing(&ours), &timing(&theirs));
    assert_eq!(total(&ours), total(&theirs));
    let sizes = |packets: &[Probed]| {
        packets.iter().filter(|packet| !packet.video).map(|packet| packet.size).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&ours), sizes(&theirs));
    assert_eq!(codec_strings(&out), ("hev1.1.6.L30.90", "opus"));
    assert_eq!(video_format(&out), (128, 96, None));
}

#[test]
fn frames_that_no_other_needs_are_told_alike_in_both_framings() {
    let discardable = |out: &Demuxed| -> Vec<bool> {
        let id = out.track(Kind::Video).id;
        out.frames.iter().filter(|f| f.track == id).map(|f| f.discardable).collect()
    };
    let mp4 = discardable(&read_file("h264_aac.mp4"));
    let ts = discardable(&demux(&fixture("h264_aac.ts"), &[]).expect("a stream"));
    assert_eq!(mp4, ts);
    // With two B-frames between references some are, and key frames never.
    assert!(mp4.contains(&true) && !mp4[0], "{mp4:?}");
}

#[test]
fn a_stream_joined_in_the_middle_starts_at_the_next_key_frame() {
    let data = fixture("h264_aac.ts");
    let whole = demux(&data, &[]).expect("a stream");
    // Past the first programme tables and key frame, and off the packet grid.
    let joined = demux(&data.slice(188 * 20 + 77..), &[]).expect("a stream");
    let id = whole.track(Kind::Video).id;
    let video = |out: &Demuxed| -> Vec<Frame> {
        out.frames.iter().filter(|frame| frame.track == id).cloned().collect()
    };
    let (whole, joined) = (video(&whole), video(&joined));
    assert!(joined.first().is_some_and(|frame| frame.keyframe));
    assert!(joined.len() < whole.len() && whole.ends_with(&joined));
}

#[test]
fn lost_packets_cost_their_frame_and_are_reported() {
    let data = fixture("h264_aac.ts");
    let whole = demux(&data, &[]).expect("a stream");
    let id = whole.track(Kind::Video).id;
    let of_video = |packet: &[u8]| {
        u32::from(packet[1] & 0x1f) << 8 | u32::from(packet[2]) == id && packet[1] & 0x40 == 0
    };
    // The second continuation packet of the video.
    let lost = data.chunks(188).enumerate().filter(|(_, packet)| of_video(packet)).nth(1);
    let at = lost.expect("video of several packets").0 * 188;
    let holed = [&data[..at], &data[at + 188..]].concat();
    let out = demux(&holed.into(), &[]).expect("a stream");
    assert!(out.warnings.contains(&Warning::PacketLoss { id }), "{:?}", out.warnings);
    assert!(out.frames.len() < whole.frames.len());
    assert!(out.frames.iter().all(|frame| whole.frames.contains(frame)), "a damaged frame");
}

#[test]
fn video_that_cannot_pass_is_refused_by_name_with_advice() {
    let error = demux(&fixture("mpeg2_mp2.ts"), &[]).unwrap_err();
    assert!(matches!(error, Error::NoSupportedTrack { .. }));
    let text = error.to_string();
    assert!(text.contains("MPEG-2 video") && text.contains("ffmpeg -i"), "{text}");
}

#[test]
fn audio_that_cannot_pass_is_left_out_with_a_warning() {
    let out = demux(&fixture("h264_mp3.ts"), &[]).expect("a stream");
    assert_eq!(out.tracks.len(), 1);
    assert_eq!(out.tracks[0].codec, Codec::H264);
    assert_eq!(out.frames.len(), 12);
    let [Warning::UnsupportedTrack { codec, .. }] = &out.warnings[..] else {
        panic!("{:?}", out.warnings);
    };
    assert!(codec.contains("MP3"));
}

#[test]
fn a_progressive_file_as_a_stream_is_refused_with_advice() {
    for name in ["h264_aac.mp4", "h264_aac_faststart.mp4"] {
        let error = demux(&fixture(name), &[]).unwrap_err();
        assert!(matches!(error, Error::ProgressiveStream), "{error}");
    }
}
