use super::*;

type Row = (u64, String);

fn rows() -> Vec<Row> {
    (0..100)
        .map(|i| (i << 40, "x".repeat(i as usize)))
        .collect()
}

/// All pieces of records, each within the limit.
fn pieces(max_bytes: u32) -> Vec<Vec<u8>> {
    let (mut cursor, mut pieces) = (0, Vec::new());
    loop {
        let piece = cut(2, cursor, max_bytes, rows()).unwrap();
        assert!(piece.bytes.len() <= max_bytes as usize);
        pieces.push(piece.bytes);
        match piece.next {
            Some(next) => {
                assert!(next > cursor, "a piece without a record never ends");
                cursor = next;
            }
            None => return pieces,
        }
    }
}

#[test]
fn records_come_back_in_order_whatever_the_size_of_pieces() {
    for (max_bytes, count) in [(120, 50..101), (1_000, 6..9), (1 << 20, 1..2)] {
        let pieces = pieces(max_bytes);
        assert!(
            count.contains(&pieces.len()),
            "{max_bytes}: {}",
            pieces.len()
        );
        let read = |piece| records::<Row>(2, 2, piece).unwrap();
        let back: Result<Vec<Row>, String> = pieces.iter().flat_map(|p| read(p)).collect();
        assert_eq!(back.unwrap(), rows());
    }
    assert_eq!(cut(2, 100, 64, rows()).unwrap().next, None, "past the end");
    let empty = cut(2, 0, 64, Vec::<Row>::new()).unwrap();
    assert_eq!(records::<Row>(2, 2, &empty.bytes).unwrap().count(), 0);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let too_large = cut(2, 99, 50, rows()).unwrap_err();
    assert!(
        too_large.contains("record 99") && too_large.contains("above 50"),
        "{too_large}"
    );
    let piece = cut(2, 0, 1_000, rows()).unwrap().bytes;
    let error = |of, schema, piece: &[u8]| records::<Row>(of, schema, piece).unwrap_err();
    assert_eq!(
        error(3, 2, &piece),
        "state of schema 2 is not known: 3 is read"
    );
    // The host says 3, the piece says 2.
    assert_eq!(
        error(3, 3, &piece),
        "state of schema 2 is not known: 3 is read"
    );
    assert!(error(2, 2, b"pxst....").contains("not made by this kit"));
    assert!(error(2, 2, &piece[..6]).contains("cut"));
    let mut damaged = records::<Row>(2, 2, &piece[..piece.len() - 1]).unwrap();
    assert!(
        damaged
            .by_ref()
            .any(|r| r.is_err_and(|e| e.contains("damaged")))
    );
    assert!(damaged.next().is_none(), "nothing comes after it");
    let nothing = [&head(RECORDS, 2)[..], &[0; 9]].concat();
    assert!(
        records::<()>(2, 2, &nothing)
            .unwrap()
            .next()
            .unwrap()
            .is_err()
    );
}

#[test]
fn a_value_is_collected_from_its_pieces() {
    let (mut out, mut into) = (Pieces::new(4), Pieces::<Vec<Row>>::new(4));
    let (one, two) = (rows(), vec![(1, "two".to_owned())]);
    let (mut cursor, mut count) = (0, 0);
    let one_back = loop {
        let piece = out.cut(1, cursor, 500, Some(&one)).unwrap();
        assert!(piece.bytes.len() <= 500);
        count += 1;
        // Another source's value comes in between.
        let other = Pieces::new(4).cut(2, 0, 500, Some(&two)).unwrap();
        assert_eq!(into.collect(2, 4, &other.bytes).unwrap(), Some(two.clone()));
        let back = into.collect(1, 4, &piece.bytes).unwrap();
        assert_eq!(
            back.is_some(),
            piece.next.is_none(),
            "whole with the last one"
        );
        match piece.next {
            Some(next) => cursor = next,
            None => break back,
        }
    };
    assert!(count > 10);
    assert_eq!(one_back, Some(one));
    let nothing = out.cut(3, 0, 500, None).unwrap();
    assert_eq!(
        (nothing.next, into.collect(3, 4, &nothing.bytes)),
        (None, Ok(None))
    );
}

#[test]
fn a_value_in_disorder_is_refused() {
    let (mut out, mut into) = (Pieces::new(4), Pieces::<Vec<Row>>::new(4));
    let first = out.cut(1, 0, 500, Some(&rows())).unwrap();
    let second = out.cut(1, first.next.unwrap(), 500, Some(&rows())).unwrap();
    let error = |into: &mut Pieces<Vec<Row>>, schema, piece: &[u8]| {
        into.collect(1, schema, piece).unwrap_err()
    };
    assert!(error(&mut into, 4, &second.bytes).contains("but 0 came"));
    assert!(error(&mut into, 5, &first.bytes).contains("schema 5 is not known: 4 is read"));
    assert_eq!(into.collect(1, 4, &first.bytes), Ok(None));
    assert!(error(&mut into, 4, &first.bytes[..20]).contains("cut"));
    // Begun anew, and not from where it was.
    assert!(error(&mut into, 4, &second.bytes).contains("but 0 came"));
    assert!(
        out.cut(2, 7, 500, None).is_err(),
        "begun with another source"
    );
    assert!(
        out.cut(1, 0, 24, Some(&rows()))
            .unwrap_err()
            .contains("hold no state")
    );
}
