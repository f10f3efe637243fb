//! Temporal layers out of OpenH264. The `openh264` crate fixes their number to one, so this is
//! where the encoder's own options are used, in unsafe code.

use std::ptr::from_mut;

use openh264::encoder::Encoder;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, SEncParamExt};

/// Has an encoder that has encoded a frame give its next ones in so many temporal layers. It
/// takes settings no earlier, and should go on with a key frame.
#[expect(unsafe_code, reason = "the encoder's safe interface has no word for temporal layers")]
pub(super) fn set_temporal_layers(encoder: &mut Encoder, layers: u8) -> Result<(), String> {
    let mut parameters = SEncParamExt::default();
    // SAFETY: the encoder stays as it was made; what it has settled is read and one of its own
    // settings changed, with the calls meant for that.
    let raw = unsafe { encoder.raw_api() };
    // SAFETY: this option writes one `SEncParamExt`, into the one lent here, before it returns.
    let read = unsafe {
        raw.get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, from_mut(&mut parameters).cast())
    };
    if read != 0 {
        return Err(format!("OpenH264 does not tell its settings: {read}"));
    }
    parameters.iTemporalLayerNum = layers.into();
    // SAFETY: this option reads one `SEncParamExt` and keeps no pointer to it.
    let set = unsafe {
        raw.set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, from_mut(&mut parameters).cast())
    };
    if set != 0 {
        return Err(format!("OpenH264 refuses {layers} temporal layers: {set}"));
    }
    Ok(())
}
