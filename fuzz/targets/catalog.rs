//! The catalog, which viewers and gateways read from whoever publishes.

use media::msf::Catalog;

/// What could be read must be written and read again as the same.
pub(crate) fn catalog(data: &[u8]) {
    let Ok(read) = Catalog::from_json(data) else { return };
    let again =
        Catalog::from_json(&read.to_json()).expect("a catalog that was read can be written");
    assert_eq!(rounded(again), rounded(read));
}

/// Decimal digits don't keep the last bit of a number: frame rates are compared to a thousandth.
fn rounded(mut catalog: Catalog) -> Catalog {
    for track in &mut catalog.tracks {
        track.framerate = track.framerate.map(|rate| match rate.abs() < 1e9 {
            true => (rate * 1000.0).round(),
            false => rate.signum(),
        });
    }
    catalog
}
