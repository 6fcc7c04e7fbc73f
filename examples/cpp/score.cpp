// Loads a TorchScript model and checks that it answers as it should: score model.pt golden.pt
#include <torch/script.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: score model.pt golden.pt\n";
    return 2;
  }
  c10::InferenceMode guard;
  auto model = torch::jit::load(argv[1]);
  auto golden = torch::jit::load(argv[2]);
  model.eval();
  auto call = [&](const at::Tensor& x) { return model.forward({x}).toTensor(); };

  auto x = golden.attr("x").toTensor();
  auto answers = call(x);
  if (!at::allclose(answers, call(x))) {
    std::cerr << "two calls differ\n";
    return 1;
  }
  if (!at::allclose(answers.slice(0, 0, 1), call(x.slice(0, 0, 1)), 1e-4, 1e-4)) {
    std::cerr << "a row depends on its batch\n";
    return 1;
  }
  if (!at::allclose(answers, golden.attr("answers").toTensor(), 1e-4, 1e-4)) {
    std::cerr << "other answers than in Python\n";
    return 1;
  }
  std::cout << "as in eval mode\n";
}
