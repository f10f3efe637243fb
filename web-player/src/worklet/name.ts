/** What the worklet registers and the page asks for. */
export const PROCESSOR_NAME = "weir-playout";
