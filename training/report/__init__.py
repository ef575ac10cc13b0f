"""Pages that show what a model file does: results, important pixels, activations, weights.

Everything comes from the one ONNX file: answers and important pixels through the service's
Classifier, values inside the network by asking onnxruntime for them too. So a page can be made of
any model that the service opens, however it was trained, and no TensorFlow is started. Only the
curves over time need what training left beside the model, its `log.csv`.
"""
