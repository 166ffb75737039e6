// Images of an exported generator in C++: ./generate g.onnx SEED...
// The files SEED.pgm, or SEED.ppm of a generator with colours, are those of gan-gen. With the archive of onnxruntime:
// g++ -std=c++17 generate.cpp -o generate -I ort/include -L ort/lib -lonnxruntime -Wl,-rpath,$PWD/ort/lib
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

constexpr bool UNIFORM = false;  // as `gan-gen g.onnx --info` says: latents from -1 to 1, or normal ones
constexpr int64_t CLASSES = 10;  // of a generator with classes

// Component by component as docs/latents.md specifies: Philox4x32-10 and Box-Muller.
void latent(uint64_t seed, std::vector<float>& z, size_t dim) {
  for (uint32_t block = 0; 4 * block < dim; block++) {
    uint32_t c[4] = {block, 0, 0, 0}, k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
      const uint64_t a = uint64_t(0xd2511f53) * c[0], b = uint64_t(0xcd9e8d57) * c[2];
      const uint32_t next[4] = {uint32_t(b >> 32) ^ c[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k1, uint32_t(a)};
      std::copy(next, next + 4, c);
    }
    double u[4];
    for (int i = 0; i < 4; i++) u[i] = (c[i] + 0.5) / 4294967296.0;
    for (size_t i = 0; i < 4 && 4 * block + i < dim; i++) {
      const double angle = 2 * std::acos(-1.0) * u[i | 1];
      const double normal = std::sqrt(-2 * std::log(u[i & 2])) * (i % 2 ? std::sin(angle) : std::cos(angle));
      z.push_back(float(UNIFORM ? 2 * u[i] - 1 : normal));
    }
  }
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("generate g.onnx SEED...");
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "generate");
  Ort::Session session(env, std::filesystem::path(argv[1]).c_str(), Ort::SessionOptions());
  const int64_t n = argc - 2;
  const int64_t dim = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape()[1];

  std::vector<float> z;
  std::vector<int64_t> label;
  for (int i = 2; i < argc; i++) {
    const uint64_t seed = std::strtoull(argv[i], nullptr, 10);
    latent(seed, z, size_t(dim));
    label.push_back(int64_t(seed % CLASSES));
  }
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::vector<int64_t> z_shape{n, dim}, label_shape{n};
  std::vector<Ort::Value> feeds;
  feeds.push_back(Ort::Value::CreateTensor(memory, z.data(), z.size(), z_shape.data(), z_shape.size()));
  feeds.push_back(Ort::Value::CreateTensor(memory, label.data(), label.size(), label_shape.data(), label_shape.size()));
  const char* inputs[] = {"z", "label"};
  const char* outputs[] = {"pixels"};
  const auto made = session.Run(Ort::RunOptions(), inputs, feeds.data(), session.GetInputCount() > 1 ? 2 : 1, outputs, 1);

  const auto shape = made[0].GetTensorTypeAndShapeInfo().GetShape();  // batch, height, width, channels
  const size_t size = size_t(shape[1] * shape[2] * shape[3]);
  const auto* pixels = made[0].GetTensorData<uint8_t>();
  for (int64_t i = 0; i < n; i++) {
    const bool grey = shape[3] == 1;
    std::ofstream file(std::string(argv[i + 2]) + (grey ? ".pgm" : ".ppm"), std::ios::binary);
    file << (grey ? "P5" : "P6") << ' ' << shape[2] << ' ' << shape[1] << " 255\n";
    file.write(reinterpret_cast<const char*>(pixels) + i * size, std::streamsize(size));
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
