//! cloister-onnx
