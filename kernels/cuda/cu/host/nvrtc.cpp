// A compiler of kernels for driver.cpp, with NVRTC's interface: what it makes is a shared library of this host, behind its
// length. Built with HOST, the directory of fibers.h and device.h.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <unistd.h>

enum { SUCCESS = 0, COMPILATION = 6 };

struct Program {
    std::string source, made, log;
};

// A driver finds how to start a kernel, whatever its parameter, under a name made of the kernel's.
static std::string starts(const std::string& preprocessed) {
    static const std::regex kernel("__global__ void __launch_bounds__\\([^)]*\\) (\\w+)\\(");
    std::string all = "\n";
    for (std::sregex_iterator it(preprocessed.begin(), preprocessed.end(), kernel), end; it != end; ++it) {
        std::string name = (*it)[1];
        all += "extern \"C\" void start_" + name + "(unsigned blocks, unsigned threads, const void* job) { launch(" + name +
               ", blocks, threads, job); }\n";
    }
    return all;
}

static std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

extern "C" {

int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return SUCCESS;
}

int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*, const char* const*) {
    *program = new Program{source, {}, {}};
    return SUCCESS;
}

int nvrtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

int nvrtcCompileProgram(Program* program, int, const char* const*) {
    char folder[] = HOST "/kernels-XXXXXX";
    if (!mkdtemp(folder)) return COMPILATION;
    std::string at = folder, source = at + "/kernels.cpp", whole = at + "/whole", library = at + "/kernels.so", said = at + "/said";
    std::ofstream(source) << program->source;
    auto run = [&](const std::string& arguments) { return system(("c++ -std=c++17 -w " + arguments + " 2>>" + said).c_str()) == 0; };
    bool made = run("-E -P -o " + whole + " " + source);
    std::ofstream(source, std::ios::app) << starts(read_all(whole));
    made = made && run("-O1 -fsanitize=alignment,bounds,shift -fsanitize-undefined-trap-on-error -shared -fPIC -include " HOST "/fibers.h -include " HOST "/device.h -o " + library + " " + source);
    program->log = read_all(said);
    std::string code = read_all(library);
    uint64_t bytes = code.size();
    program->made = std::string((const char*)&bytes, sizeof bytes) + code;
    for (const std::string& file : {source, whole, library, said}) unlink(file.c_str());
    rmdir(folder);
    return made ? SUCCESS : COMPILATION;
}

int nvrtcGetProgramLogSize(Program* program, size_t* bytes) {
    *bytes = program->log.size() + 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(Program* program, char* log) {
    memcpy(log, program->log.c_str(), program->log.size() + 1);
    return SUCCESS;
}

int nvrtcGetCUBINSize(Program* program, size_t* bytes) {
    *bytes = program->made.size();
    return SUCCESS;
}

int nvrtcGetCUBIN(Program* program, char* cubin) {
    memcpy(cubin, program->made.data(), program->made.size());
    return SUCCESS;
}

const char* nvrtcGetErrorString(int code) { return code == SUCCESS ? "NVRTC_SUCCESS" : "NVRTC_ERROR_COMPILATION"; }
}
