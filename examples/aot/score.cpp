// Logits of jets, by a tagger that `python -m experiments.export RUN --aot` has compiled:
//     score tagger.pt2 jets particles < momenta.bin
// The input is jets x particles x 4 float32 numbers, (E, px, py, pz) in GeV, padded with zeros.
#include <cstdlib>
#include <iostream>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

int main(int, char **arguments) {
    torch::inductor::AOTIModelPackageLoader tagger(arguments[1]);
    auto momenta = torch::zeros({std::atol(arguments[2]), std::atol(arguments[3]), 4});
    std::cin.read(static_cast<char *>(momenta.data_ptr()), momenta.nbytes());
    auto logits = tagger.run({momenta})[0].contiguous();
    for (int64_t i = 0; i < logits.numel(); ++i)
        std::cout << logits.data_ptr<float>()[i] << "\n";
}
