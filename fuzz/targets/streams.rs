//! Data streams and datagrams.

use bytes::{Bytes, BytesMut};
use moqt::{
    Datagram, FetchMark, FetchScanner, FetchWriter, GroupOrder, ObjectMark, ObjectScanner,
    RawProperties, SubgroupHeader, Version,
};

use super::Entropy;

/// Cuts a stream into chunks as the first bytes say.
fn chunks(entropy: &mut Entropy<'_>, stream: &Bytes) -> Vec<Bytes> {
    let sizes: Vec<usize> = (0..4).map(|_| entropy.below(40) + 1).collect();
    let mut rest = stream.clone();
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to(rest.len().min(*size)));
    }
    chunks
}

/// A subgroup stream must be read alike however it is cut, and its objects must follow each other.
pub(crate) fn subgroup(data: &[u8]) {
    let mut entropy = Entropy::new(data);
    let version = *entropy.pick(Version::EVERY);
    let coding = version.int_coding();
    let mut cuts = entropy.clone();
    let mut buf = BytesMut::from(entropy.rest());
    let Ok(Some(header)) = SubgroupHeader::decode(&mut buf, coding) else { return };
    let mut again = BytesMut::new();
    header.encode(&mut again, coding);
    assert_eq!(SubgroupHeader::decode(&mut again, coding), Ok(Some(header)));

    let stream = buf.freeze();
    let mut whole = Vec::new();
    let mut scanner = ObjectScanner::new(&header, coding);
    let result = scanner.scan(&stream, |mark| whole.push(mark));
    let mut end = 0;
    for mark in &whole {
        assert!(mark.start == end && mark.payload_start > mark.start, "{mark:?} at {end}");
        RawProperties::new(&mark.properties, coding).check().expect("checked properties");
        end = mark.end();
    }
    assert!(whole.windows(2).all(|pair| pair[0].id < pair[1].id));

    let mut cut: Vec<ObjectMark> = Vec::new();
    let mut scanner = ObjectScanner::new(&header, coding);
    let cut_result = chunks(&mut cuts, &stream)
        .iter()
        .try_for_each(|chunk| scanner.scan_chunk(chunk, |mark| cut.push(mark)));
    assert_eq!((cut, cut_result), (whole, result));
}

/// A fetch stream must be read alike however it is cut, and what was read must be written again to
/// the same effect.
pub(crate) fn fetch(data: &[u8]) {
    let mut entropy = Entropy::new(data);
    let version = *entropy.pick(Version::EVERY);
    let order = *entropy.pick(&[GroupOrder::Ascending, GroupOrder::Descending]);
    let mut cuts = entropy.clone();
    let stream = Bytes::copy_from_slice(entropy.rest());
    let mut whole = Vec::new();
    let mut scanner = FetchScanner::new(version, order);
    let result = scanner.scan(&stream, |mark| whole.push(mark));

    let mut cut = Vec::new();
    let mut scanner = FetchScanner::new(version, order);
    let cut_result = chunks(&mut cuts, &stream)
        .iter()
        .try_for_each(|chunk| scanner.scan(chunk, |mark| cut.push(mark)));
    assert_eq!((&cut, cut_result), (&whole, result));

    let mut writer = FetchWriter::new(version, order);
    let mut again = BytesMut::new();
    let mut written = Vec::new();
    for mark in whole {
        match mark {
            FetchMark::Object(mut object) => {
                object.start = again.len() as u64;
                // Payloads may be said to be enormous; they are left out.
                object.payload_len = 0;
                writer
                    .object(
                        object.location,
                        object.subgroup,
                        object.priority,
                        &object.properties,
                        0,
                        &mut again,
                    )
                    .expect("objects that were read are in order");
                object.payload_start = again.len() as u64;
                written.push(FetchMark::Object(object));
            }
            FetchMark::EndOfRange { end, gap } => {
                writer.end_of_range(end, gap, &mut again).expect("so are ends of ranges");
                written.push(mark);
            }
        }
    }
    let mut read = Vec::new();
    let mut scanner = FetchScanner::new(version, order);
    scanner.scan(&again.freeze(), |mark| read.push(mark)).expect("what we write can be read");
    assert_eq!(read, written);
}

/// A datagram that was read must be written and read again as the same.
pub(crate) fn datagram(data: &[u8]) {
    let mut entropy = Entropy::new(data);
    let coding = entropy.pick(Version::EVERY).int_coding();
    let bytes = Bytes::copy_from_slice(entropy.rest());
    if let Ok(Some(datagram)) = Datagram::decode(bytes, coding) {
        assert_eq!(Datagram::decode(datagram.to_bytes(coding), coding), Ok(Some(datagram)));
    }
}
