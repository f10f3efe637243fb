//! Leaves out the frames that no other is said to need, and has ffmpeg decode the rest: every
//! picture must be what it was among all the others. Without ffmpeg there is nothing to decode
//! with, and these tests have nothing to say.

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use media::{Codec, Frame, Kind};

use crate::common::demux;

const WIDTH: usize = 192;
const HEIGHT: usize = 108;
/// Of 4:2:0.
const PICTURE_BYTES: usize = WIDTH * HEIGHT * 3 / 2;
const FRAMES: usize = 48;

/// What ffmpeg makes of some input; `None` where it is not installed.
fn ffmpeg(arguments: &str, input: Vec<u8>) -> Option<Vec<u8>> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // Dropped when all is written, which is the end of the input.
        scope.spawn(move || stdin.write_all(&input).expect("all is read"));
        child.wait_with_output().expect("an end")
    });
    assert!(output.status.success(), "ffmpeg {arguments}");
    Some(output.stdout)
}

/// The video frames of a moving test picture.
fn encode(codec: &str, container: &str) -> Option<(Codec, Vec<Frame>)> {
    let source = format!("testsrc2=size={WIDTH}x{HEIGHT}:rate=30");
    let stream = ffmpeg(
        &format!("-f lavfi -i {source} -frames:v {FRAMES} -g 20 {codec} -f {container} -"),
        Vec::new(),
    )?;
    let out = demux(&Bytes::from(stream), &[]).expect("a stream");
    let codec = out.track(Kind::Video).codec;
    assert_eq!(out.frames.len(), FRAMES);
    Some((codec, out.frames))
}

/// The pictures that come of frames, in the order in which they are shown.
fn decode<'a>(codec: Codec, frames: impl Iterator<Item = &'a Frame>) -> Vec<Vec<u8>> {
    let (format, mut stream) = match codec {
        Codec::H264 => ("h264", Vec::new()),
        Codec::Hevc => ("hevc", Vec::new()),
        _ => ("ivf", ivf_header(codec)),
    };
    for (at, frame) in (0u64..).zip(frames) {
        if format == "ivf" {
            let size = u32::try_from(frame.payload.len()).expect("a small frame");
            stream.extend(size.to_le_bytes());
            stream.extend(at.to_le_bytes());
        }
        stream.extend_from_slice(&frame.payload);
    }
    let arguments =
        format!("-f {format} -i - -fps_mode passthrough -f rawvideo -pix_fmt yuv420p -");
    let pictures = ffmpeg(&arguments, stream).expect("it was there before");
    pictures.chunks(PICTURE_BYTES).map(<[u8]>::to_vec).collect()
}

fn ivf_header(codec: Codec) -> Vec<u8> {
    let four: &[u8; 4] = if codec == Codec::Av1 { b"AV01" } else { b"VP90" };
    let mut header = b"DKIF\0\0\x20\0".to_vec();
    header.extend(four);
    header.extend((WIDTH as u16).to_le_bytes());
    header.extend((HEIGHT as u16).to_le_bytes());
    for word in [30u32, 1, 0, 0] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// Leaves out what can be left out and returns how many frames that were.
fn left_out(codec: &str, container: &str) -> Option<usize> {
    let (kind, frames) = encode(codec, container)?;
    let needed = |frame: &&Frame| !frame.discardable && frame.temporal_id == 0;
    let all = decode(kind, frames.iter());
    let base = decode(kind, frames.iter().filter(needed));
    assert_eq!(all.len(), FRAMES, "{codec}");
    assert_eq!(base.len(), frames.iter().filter(needed).count(), "{codec}");
    let mut rest = all.iter();
    for (at, picture) in base.iter().enumerate() {
        assert!(rest.any(|other| other == picture), "{codec}: picture {at} is another one");
    }
    Some(FRAMES - base.len())
}

#[test]
fn h264_without_its_unreferenced_frames_shows_the_same_pictures() {
    let b_frames = "-c:v libx264 -bf 2 -b_strategy 0 -x264-params b-pyramid=none:scenecut=0";
    let pyramid = "-c:v libx264 -bf 3 -b_strategy 0 -x264-params b-pyramid=normal:scenecut=0";
    for (encoder, least) in [(b_frames, FRAMES / 2), (pyramid, FRAMES / 3)] {
        let Some(count) = left_out(encoder, "mpegts") else { return };
        assert!(count >= least, "{encoder}: {count}");
    }
    let Some(count) = left_out("-c:v libx264 -bf 0", "mpegts") else { return };
    assert_eq!(count, 0);
}

#[test]
fn hevc_without_its_upper_layers_shows_the_same_pictures() {
    let x265 = "-c:v libx265 -preset ultrafast -x265-params \
                log-level=none:bframes=3:b-adapt=0:open-gop=0";
    for more in ["", ":temporal-layers=2"] {
        let encoder = format!("{x265}{more}");
        let Some(count) = left_out(&encoder, "mpegts") else { return };
        assert!(count >= FRAMES / 4, "{encoder}: {count}");
    }
}

#[test]
fn vp9_without_its_unreferenced_frames_shows_the_same_pictures() {
    let layers = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -b:v 300k \
                  -ts-parameters ts_number_layers=2:ts_target_bitrate=200,300:\
                  ts_rate_decimator=2,1:ts_periodicity=2:ts_layer_id=0,1:ts_layering_mode=2";
    let fragmented = "mp4 -movflags frag_keyframe+empty_moov+default_base_moof";
    // There each frame goes on with probabilities and motion of the one before, shown or not.
    let Some(count) = left_out(layers, fragmented) else { return };
    assert_eq!(count, 0);
    let resilient = format!("{layers} -error-resilient default");
    let Some(count) = left_out(&resilient, fragmented) else { return };
    assert!(count >= FRAMES / 3, "{count}");
}

#[test]
fn av1_that_says_nothing_of_layers_is_left_whole() {
    let fragmented = "mp4 -movflags frag_keyframe+delay_moov+default_base_moof";
    let encoder = "-c:v libaom-av1 -usage realtime -cpu-used 8 -b:v 300k";
    let Some(count) = left_out(encoder, fragmented) else { return };
    assert_eq!(count, 0);
}
