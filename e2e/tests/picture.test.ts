import { describe, expect, test } from "vitest";
import { CELLS, crc16, drawMarks, readMarks } from "../harness/picture.ts";

describe("the marks in the test picture", () => {
  test("use the CRC whose check value everyone publishes", () => {
    expect(crc16(new TextEncoder().encode("123456789"))).toBe(0x29b1);
  });

  test("are two lines, most significant bit first", () => {
    const cells = drawMarks({ captured: 5, frame: 1 });
    expect(cells.slice(CELLS - 3, CELLS)).toEqual(Uint8Array.of(255, 0, 255));
    expect([...cells.slice(CELLS, CELLS + 48)].lastIndexOf(255)).toBe(47);
  });

  test("are read as they were drawn, however faded", () => {
    const marks = { captured: 1_790_000_000_123_456, frame: 0xabcd_1234_5678 };
    const faded = Array.from(drawMarks(marks), (cell) => (cell ? 200 : 40));
    expect(readMarks(faded)).toEqual(marks);
  });

  test("with a flipped bit in the frame number are no marks", () => {
    const cells = drawMarks({ captured: 1, frame: 77 });
    const at = CELLS + 40;
    cells[at] = 255 - (cells[at] ?? 0);
    expect(readMarks(cells)).toBeUndefined();
  });

  test("a picture without any is not mistaken for one", () => {
    expect(readMarks(new Uint8Array(CELLS * 2))).toBeUndefined();
    expect(readMarks(new Uint8Array(CELLS * 2).fill(255))).toBeUndefined();
  });
});
